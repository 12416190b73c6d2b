"""Distilled models for few steps: recognised by their names, with the settings that they were distilled for.

A distilled model cannot be distinguished from the original model by its tensors (except AnimateLCM). So it is
recognised by its file name, or by the title in the file's metadata.
"""
from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from animatediff import loras

PRESETS = ("off", "few steps")
FEW_STEPS = PRESETS[1]
FILLED = ("sampler", "schedule_type", "cfg", "steps")  # settings that the preset sets
# Schedule types with the timesteps of distilled models: 999, 749, 499 and 249 for 4 steps ("trailing",
# arXiv:2305.08891, table 2). The first is the engine's name, the others are the WebUI's.
TRAILING = ("trailing", "SGM Uniform", "Simple")
AUTOMATIC = "Automatic"
EULER, LCM = ("Euler", "SGM Uniform"), ("LCM", AUTOMATIC)
_STEPS = re.compile(r"(?<!\d)(\d{1,2})[-_ ]?steps?", re.IGNORECASE)


@dataclass(frozen=True)
class Distilled:
    """A kind of distilled model, with the settings that it was distilled for."""

    name: str
    pattern: re.Pattern[str]  # of file names and titles
    sampler: str
    schedule_type: str
    steps: int  # usual number of steps
    fewest: int = 1  # smallest number of steps
    most: int = 8  # largest number of steps
    cfg: float = 1.0
    most_cfg: float = 2.0  # largest CFG that works
    own_steps: int = 0  # number of steps in the file's name; 0 if it names none

    @property
    def values(self) -> dict[str, str | float]:
        """The settings of the model, by their names."""
        return {"sampler": self.sampler, "schedule_type": self.schedule_type, "cfg": self.cfg,
                "steps": self.own_steps or self.steps}

    def takes(self, steps: int) -> bool:
        """Return whether the model gives good clips with this number of steps.

        Lightning's authors recommend three steps for their model of two.
        """
        if self.own_steps:
            return steps == self.own_steps or (self.own_steps, steps) == (2, 3)
        return self.fewest <= steps <= self.most


def _kind(name: str, pattern: str, grid: tuple[str, str], steps: int, **more: float) -> Distilled:
    return Distilled(name, re.compile(pattern, re.IGNORECASE), *grid, steps, **more)  # pyright: ignore


ANIMATE_LCM = _kind("AnimateLCM", r"animate[-_ ]?lcm", LCM, 6, fewest=4, cfg=1.5)
# The order matters, because some names contain others.
KINDS = (
    _kind("AnimateDiff-Lightning",
          r"animate[-_ ]?diff[-_ ]?lightning|lightning.*(?:mm|motion)|(?:mm|motion).*lightning", EULER, 4),
    ANIMATE_LCM,
    _kind("Hyper-SD for CFG", r"hyper[-_ ]?sd.*cfg", EULER, 8, fewest=6, most=12, cfg=5.0, most_cfg=8.0),
    _kind("Hyper-SD", r"hyper[-_ ]?(?:sd|vae|lora)|(?<![a-z])hyper(?![a-z])", EULER, 4),
    _kind("Lightning", r"lightning", EULER, 4, fewest=2),
    _kind("LCM", r"(?<![a-z])lcm(?![a-z])|(?-i:LCM(?![a-z]))", LCM, 6, fewest=4, cfg=1.5),
)


def recognised(*names: str) -> Distilled | None:
    """Return the kind of distilled model, or None. names: the file's name, and titles in its metadata."""
    for name in filter(None, names):
        for kind in KINDS:
            if kind.pattern.search(name):
                own = _STEPS.search(name)
                return replace(kind, own_steps=int(own[1])) if own and 0 < int(own[1]) <= kind.most else kind
    return None


def first(models: Iterable[tuple[str, Distilled | None]]) -> tuple[str, Distilled] | None:
    """Return the first distilled model with its file's name, or None. models: pairs of file name and kind."""
    return next(((name, model) for name, model in models if model is not None), None)


def of_files(module: tuple[str, Distilled | None], prompt: str, checkpoint: str) -> tuple[str, Distilled] | None:
    """Return the first distilled model of a clip with its file's name, or None.

    The models are looked through in this order: motion module, LoRAs in the prompt, checkpoint.
    """
    names = [*loras.tag_names(prompt), checkpoint]
    return first([module, *((name, recognised(name)) for name in names)])


def preset(module: str, prompt: str = "", checkpoint: str = "") -> dict[str, str | float]:
    """Return the settings of the preset "few steps" for models with these names.

    If no name is that of a distilled model, the settings of AnimateDiff-Lightning are returned.
    """
    found = of_files((module, recognised(module)), prompt, checkpoint)
    return (found[1] if found else KINDS[0]).values


@dataclass(frozen=True)
class Run:
    """The settings that a clip is sampled with."""

    sampler: str
    grid: str  # the effective schedule type; one of TRAILING if the sampler has such timesteps itself
    steps: int
    cfg: float


def notices(name: str, model: Distilled, run: Run) -> list[str]:
    """Return notes on settings that do not fit a distilled model. name: its file's name."""
    said, wanted = [], model.values
    steps = str(model.own_steps) if model.own_steps else f"{model.fewest} to {model.most}"
    same_kind = (run.sampler == "LCM") == (model.sampler == "LCM")
    if not (same_kind and model.takes(run.steps) and min(1, model.cfg) <= run.cfg <= model.most_cfg):
        grid = "" if model.sampler == "LCM" else f", the schedule type {model.schedule_type}"
        said.append(f"{name} is distilled for few steps ({model.name}): use the sampler {model.sampler}{grid}, CFG "
                    f"{wanted['cfg']:g} and {steps} steps; the preset {FEW_STEPS} sets them")
    if "LCM" not in (model.sampler, run.sampler) and run.grid not in TRAILING and model.takes(run.steps):
        trained = [int(999 - 1000 * step / run.steps) for step in range(run.steps)]
        uniform = [round(999 - 999 * step / max(run.steps - 1, 1)) for step in range(run.steps)]
        here = f"are {_joined(uniform)}" if run.grid == "Uniform" else "are others"
        if run.grid != "Uniform" or uniform != trained:
            said.append(f"{name} was trained for the timesteps {_joined(trained)} of 1000, but those of {run.sampler} "
                        f"({run.grid}) {here}: use {model.sampler} with the schedule type {model.schedule_type}")
    return said


def _joined(values: Iterable[int]) -> str:
    return ", ".join(map(str, values))
