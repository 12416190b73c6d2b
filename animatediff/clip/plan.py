"""Plan a clip: resolve and check all settings before anything is computed."""
from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, cast

from animatediff import few_steps, notices, windows
from animatediff.clip import pictures, writing
from animatediff.clip.backend import Backend, SamplerRun, Steps
from animatediff.clip.context import Context
from animatediff.clip.inputs import Inputs, Texts
from animatediff.clip.sampled import Sampled
from animatediff.errors import ModelError
from animatediff.layout import ClipLayout
from animatediff.motion import BetaSchedule, MotionModule, Steering, lora
from animatediff.sampling.from_pictures import steps_done
from animatediff.sampling.seam import Seam
from animatediff.settings import Settings

SAMPLING, SECOND, REPAIR = "sampling", "second pass", "seam repair"


@dataclass(frozen=True)
class Pass:
    """One sampler run over the clip, or over the frames around its seam."""

    name: str
    sampled: Sampled  # sampler settings
    run: Steps  # steps of the run
    context: Context
    seam: Seam | None = None  # for a seam repair

    @property
    def sampler(self) -> SamplerRun:
        """The run, for backends that call the sampler themselves."""
        return cast(SamplerRun, self.run)

    def calls(self) -> list[tuple[int, int]] | None:
        """Return the step (0-based) and the number of UNet calls for each denoiser call.

        Returns None if they are not known before the run.
        """
        if (steps := self.run.call_steps) is None:
            return None
        return [(step, 1 if self.seam else self.context.calls(step)) for step in steps]


@dataclass(frozen=True)
class Passes:
    """The sampler runs that make a clip."""

    iterations: tuple[Pass, ...]  # one, or FreeInit's iterations
    second: Pass | None = None  # second pass over the first pass's clip
    repair: Pass | None = None  # seam repair of the last pass's clip

    @property
    def all(self) -> tuple[Pass, ...]:
        """All sampler runs, in the order in which they run."""
        return (*self.iterations, *filter(None, (self.second, self.repair)))

    def of_pass(self, *, second: bool) -> Passes:
        """Return the runs of the first or of the second pass alone. The seam is repaired in the last pass."""
        if second and self.second is not None:
            return Passes((self.second,), repair=self.repair)
        return Passes(self.iterations, repair=None if self.second else self.repair)

    @classmethod
    def of(cls, settings: Settings, frames: int, sampled: Sampled, place: Callable[[Sampled], Steps]) -> Passes:
        """Return the sampler runs of a clip. place: returns the steps of a run; called once per distinct Sampled."""
        context, placed = Context.of(settings, frames), cache(place)

        def one(name: str, sampled: Sampled, seam: Seam | None = None) -> Pass:
            return Pass(name, sampled, placed(sampled), context, seam)

        last = sampled.second or sampled
        iterations = tuple(one(SAMPLING if number == 1 else f"FreeInit iteration {number}", each)
                           for number, each in enumerate(_iterations(settings, replace(sampled, second=None)), 1))
        second = one(SECOND, sampled.second) if sampled.second else None
        if not settings.enable or (seam := seam_of(settings, frames, sampled.steps)) is None:
            return cls(iterations, second)
        again = replace(last, steps=sampled.steps, strength=settings.seam_repair, exact=False, second=None)
        return cls(iterations, second, one(REPAIR, again, seam))


def _iterations(settings: Settings, sampled: Sampled) -> list[Sampled]:
    """Return FreeInit's iterations. The number of steps of a shorter one is a share of the steps that are done."""
    steps = settings.iterations(sampled.done) if settings.enable else [sampled.done]
    return [sampled if count == sampled.done else replace(sampled, steps=count, exact=True) for count in steps]


@dataclass(frozen=True)
class Plan:
    """A planned clip."""

    settings: Settings  # with number of frames, seed and size; planning them again gives the same clip
    inputs: Inputs
    sampling: Passes
    steering: Steering | None  # None if the motion module is used as trained
    betas: BetaSchedule  # noise schedule of the motion module, or of the image model for stills
    notices: tuple[str, ...]  # effects that a user may not expect
    advice: tuple[str, ...] = ()  # the notices that depend on the settings alone; the preflight shows them as well

    @property
    def iterations(self) -> tuple[Pass, ...]:
        return self.sampling.iterations

    @property
    def second(self) -> Pass | None:
        return self.sampling.second

    @property
    def repair(self) -> Pass | None:
        return self.sampling.repair

    @property
    def passes(self) -> tuple[Pass, ...]:
        """All sampler runs, in the order in which they run."""
        return self.sampling.all

    @property
    def loras(self) -> list[lora.Weighted]:
        """Motion LoRAs of the first pass."""
        return self.loras_of(self.inputs.texts[0])

    @staticmethod
    def loras_of(texts: Texts) -> list[lora.Weighted]:
        """Return the motion LoRAs of a pass, with their weights."""
        return [(each.lora, each.weight) for each in texts.loras]

    @property
    def playback(self) -> list[int]:
        """The clip's frames in the order in which they are written."""
        return self.playback_of(self.settings.frames)

    def playback_of(self, count: int) -> list[int]:
        """Return the order in which the first `count` frames are written, for a clip that has no others."""
        s = self.settings
        return windows.playback(count, s.context_length, s.closed_loop if s.enable else "none")

    def calls(self, found: Mapping[str, Any] | None = None) -> int | None:
        """Return the number of UNet calls, for progress and estimates, or None if it is not known before the run.

        found: state of an interrupted run. With it, only the remaining calls are counted.
        """
        counted, done = {each.name: each.calls() for each in self.passes}, 0
        names = list(counted)
        if found:
            names = names[names.index(found["stage"]):] if found["stage"] in names else []
            done = found["step"]
        if any(counted[name] is None for name in names):
            return None
        return sum(calls for name in names for step, calls in counted[name] or ()
                   if name != names[0] or step >= done)


def plan(inputs: Inputs, backend: Backend) -> Plan:
    """Return the plan of a clip for `backend`. Raises ModelError or SettingsError if the backend cannot make it."""
    settings = inputs.settings
    settings = replace(settings, seed=secrets.randbelow(2**32) if settings.seed < 0 else settings.seed,
                       size=settings.size or backend.own_size)
    _check(settings, inputs, backend)
    betas = backend.module.family.betas if settings.enable and backend.module else backend.own_betas
    passes = Passes.of(settings, settings.frames, inputs.sampled, lambda sampled: backend.sampler(sampled, betas))
    steering = Steering.of(settings, settings.frames, inputs.mask) if settings.enable else None
    advice = _advice(settings, inputs, backend, passes.iterations[0].run.steps)
    said = [*advice, *_notices(settings, inputs, backend)]
    return Plan(settings, inputs, passes, steering, betas, tuple(dict.fromkeys(said)), tuple(advice))


def seam_of(settings: Settings, frames: int, steps: int) -> Seam | None:
    """Return the seam to repair, or None without a seam repair and for a clip that plays to and fro.

    steps: steps of the whole sampling. Like the WebUI's img2img, the repair does the share of them that its denoising
    strength gives, and at least one.
    """
    context = settings.context_length
    if not settings.seam_repair or windows.to_and_fro(frames, context, settings.closed_loop):
        return None
    return Seam.of(frames, context, steps_done(steps, settings.seam_repair))


def _check(settings: Settings, inputs: Inputs, backend: Backend) -> None:
    if not settings.enable:
        return
    if backend.module is None:
        raise ModelError("this pipeline was loaded without a motion module", where="enable",
                         remedy="Load one, or set enable to false for stills")
    backend.module.check_frames(min(settings.frames, settings.context_length))
    for texts in inputs.texts:
        for each in texts.loras:
            lora.check_fit(each.lora.about, backend.module)
        with lora.applied_to_unet(backend.unet, Plan.loras_of(texts), settings.frames, ClipLayout.contiguous):
            pass  # entering the scope raises an error for a domain adapter that does not fit


def _distilled(inputs: Inputs, backend: Backend, module: MotionModule) -> tuple[str, few_steps.Distilled] | None:
    return few_steps.of_files((module.name, module.distilled), inputs.text, backend.models.checkpoint)


def _advice(settings: Settings, inputs: Inputs, backend: Backend, steps: int) -> list[str]:
    """Return notices that depend on the settings alone. steps: number of steps that are done."""
    said, module = [], backend.module
    if settings.enable and module is not None:
        said += notices.of_clip(settings, module.name, module.family, inputs.sampled.sampler,
                                distilled=_distilled(inputs, backend, module) is not None)
    return said + notices.of_speed(settings, steps)


def _notices(settings: Settings, inputs: Inputs, backend: Backend) -> list[str]:
    """Return all other notices. None of them stops the run."""
    said, module, sampled = [], backend.module, inputs.sampled
    if settings.enable and module is not None:
        found = _distilled(inputs, backend, module)
        run = few_steps.Run(sampled.sampler, backend.grid(sampled), sampled.steps, sampled.cfg)
        said += notices.of_few_steps(found, run, settings.preset)
        said += [note for texts in inputs.texts for each in texts.loras
                 for note in lora.notices(each.lora.about, module.name, module.family.has_mid)]
    elif inputs.loras:
        said.append("motion LoRAs have no effect on stills")
    schedules = [schedule for texts in inputs.texts for schedule in (texts.prompt, texts.negative)]
    if settings.cfg == 1 and settings.negative:
        said.append("the negative prompt has no effect at CFG 1")
    said += notices.of_pictures(settings, from_picture=sampled.from_picture)
    said += inputs.source.notices(settings) if inputs.source else []
    said += pictures.notices(settings, inputs.pictures, backend.own_size)
    if writing.deep_in_vain(settings):
        said.append(writing.EIGHT_BITS)
    said += [note for schedule in schedules for note in schedule.notes]
    return said + backend.notices(inputs)
