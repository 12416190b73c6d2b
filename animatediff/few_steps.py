"""Models that were distilled to few steps: told by their names, and the settings that they were distilled for.

Nothing in the tensors of such a file tells it from the model that it was distilled from (AnimateLCM is the exception),
so what tells is the file's name, or the title that its trainer wrote into it.
"""
from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from animatediff import loras

PRESETS = ("off", "few steps")
FEW_STEPS = PRESETS[1]
FILLED = ("sampler", "schedule_type", "cfg", "steps")  # what the preset sets
# Schedule types that begin each step where the last one of a distilled model begins: with 4 steps at 999, 749, 499 and
# 249 ("trailing", arXiv:2305.08891, table 2). The engine's name, and the WebUI's two.
TRAILING = ("trailing", "SGM Uniform", "Simple")
AUTOMATIC = "Automatic"
EULER, LCM = ("Euler", "SGM Uniform"), ("LCM", AUTOMATIC)
_STEPS = re.compile(r"(?<!\d)(\d{1,2})[-_ ]?steps?", re.IGNORECASE)


@dataclass(frozen=True)
class Distilled:
    """A kind of distilled model. sampler, schedule_type, cfg: what it was distilled for; up to most_cfg works. steps:
    the usual number, of those from `fewest` to `most`. told_by: a pattern of names."""

    name: str
    told_by: re.Pattern[str]
    sampler: str
    schedule_type: str
    steps: int
    fewest: int = 1
    most: int = 8
    cfg: float = 1.0
    most_cfg: float = 2.0
    own_steps: int = 0  # of a file that was distilled for one number of them

    @property
    def values(self) -> dict[str, str | float]:
        """The settings, by their names."""
        return {"sampler": self.sampler, "schedule_type": self.schedule_type, "cfg": self.cfg,
                "steps": self.own_steps or self.steps}

    def takes(self, steps: int) -> bool:
        """Whether it gives good clips with so many steps. Of Lightning's for two, its authors recommend three."""
        if self.own_steps:
            return steps == self.own_steps or (self.own_steps, steps) == (2, 3)
        return self.fewest <= steps <= self.most


def _kind(name: str, pattern: str, grid: tuple[str, str], steps: int, **more: float) -> Distilled:
    return Distilled(name, re.compile(pattern, re.IGNORECASE), *grid, steps, **more)  # pyright: ignore


ANIMATE_LCM = _kind("AnimateLCM", r"animate[-_ ]?lcm", LCM, 6, fewest=4, cfg=1.5)
# In this order: the names of some contain those of others.
KINDS = (
    _kind("AnimateDiff-Lightning",
          r"animate[-_ ]?diff[-_ ]?lightning|lightning.*(?:mm|motion)|(?:mm|motion).*lightning", EULER, 4),
    ANIMATE_LCM,
    _kind("Hyper-SD for CFG", r"hyper[-_ ]?sd.*cfg", EULER, 8, fewest=6, most=12, cfg=5.0, most_cfg=8.0),
    _kind("Hyper-SD", r"hyper[-_ ]?(?:sd|vae|lora)|(?<![a-z])hyper(?![a-z])", EULER, 4),
    _kind("Lightning", r"lightning", EULER, 4, fewest=2),
    _kind("LCM", r"(?<![a-z])lcm(?![a-z])|(?-i:LCM(?![a-z]))", LCM, 6, fewest=4, cfg=1.5),
)


def told(*names: str) -> Distilled | None:
    """What a model is distilled by, from its file's name and what else it is called; None for no distilled one."""
    for name in filter(None, names):
        for kind in KINDS:
            if kind.told_by.search(name):
                own = _STEPS.search(name)
                return replace(kind, own_steps=int(own[1])) if own and 0 < int(own[1]) <= kind.most else kind
    return None


def first(models: Iterable[tuple[str, Distilled | None]]) -> tuple[str, Distilled] | None:
    """Of models with their files' names the first that is distilled."""
    return next(((name, model) for name, model in models if model is not None), None)


def of_files(module: tuple[str, Distilled | None], prompt: str, checkpoint: str) -> tuple[str, Distilled] | None:
    """What of a clip's models is distilled: its motion module, the LoRAs that the prompt names, its checkpoint."""
    names = [*loras.tag_names(prompt), checkpoint]
    return first([module, *((name, told(name)) for name in names)])


def preset(module: str, prompt: str = "", checkpoint: str = "") -> dict[str, str | float]:
    """The settings of the preset few steps for models with these names; where none of them is known to be distilled,
    those that most are distilled for."""
    found = of_files((module, told(module)), prompt, checkpoint)
    return (found[1] if found else KINDS[0]).values


@dataclass(frozen=True)
class Run:
    """What a clip is sampled with. grid: the schedule type that acts, TRAILING's if the sampler has such steps of its
    own."""

    sampler: str
    grid: str
    steps: int
    cfg: float


def notices(name: str, model: Distilled, run: Run) -> list[str]:
    """What a user may not expect of a distilled model with these settings. name: of its file."""
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
