"""A clip as it is about to be made: everything resolved and checked once, before anything is computed."""
from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from animatediff import few_steps, notices, sampler_table, windows
from animatediff.clip import pictures
from animatediff.clip.backend import Backend, SamplerRun
from animatediff.clip.context import Context
from animatediff.clip.inputs import Inputs
from animatediff.errors import ModelError
from animatediff.motion import BetaSchedule, Steering, lora
from animatediff.sampling.from_pictures import run_strength, steps_done
from animatediff.sampling.seam import Seam
from animatediff.settings import Settings

SAMPLING, REPAIR = "sampling", "seam repair"


@dataclass(frozen=True)
class Pass:
    """One run of the sampler over the clip, or, with `seam`, over the frames around its seam."""

    name: str
    run: SamplerRun
    context: Context
    seam: Seam | None = None

    def calls(self) -> list[tuple[int, int]]:
        """For each call of the denoiser its step (0-based), and how often it calls the UNet."""
        if self.seam is not None:
            return [(step, 1) for step in self.run.call_steps]
        return [(step, self.context.calls(step)) for step in self.run.call_steps]


@dataclass(frozen=True)
class Plan:
    """settings: those of one run: frames counted, a seed drawn, a size. Planned again, they give the same clip.
    iterations: one, or FreeInit's. steering: None where the motion module acts as it was trained. betas: the noise
    schedule of the motion module, or of the image model for stills."""

    settings: Settings
    inputs: Inputs
    iterations: tuple[Pass, ...]
    repair: Pass | None
    steering: Steering | None
    betas: BetaSchedule
    notices: tuple[str, ...]

    @property
    def passes(self) -> tuple[Pass, ...]:
        return self.iterations if self.repair is None else (*self.iterations, self.repair)

    @property
    def loras(self) -> list[lora.Weighted]:
        return [(each.lora, each.weight) for each in self.inputs.loras]

    @property
    def playback(self) -> list[int]:
        """The clip's frames in the order in which they are written."""
        s = self.settings
        return windows.playback(s.frames, s.context_length, s.closed_loop if s.enable else "none")

    def calls(self, found: Mapping[str, Any] | None = None) -> int:
        """UNet calls of the run, for progress and estimates. found: the state of one that was cut off, of which they
        are the rest."""
        counted, done = {each.name: each.calls() for each in self.passes}, 0
        names = list(counted)
        if found:
            names = names[names.index(found["stage"]):] if found["stage"] in names else []
            done = found["step"]
        return sum(calls for name in names for step, calls in counted[name] if name != names[0] or step >= done)


def plan(inputs: Inputs, backend: Backend) -> Plan:
    """What `backend` is to do. ModelError and SettingsError for what it cannot."""
    settings = inputs.settings
    settings = replace(settings, seed=secrets.randbelow(2**32) if settings.seed < 0 else settings.seed,
                       size=settings.size or backend.own_size)
    _check(settings, inputs, backend)
    betas = backend.module.family.betas if settings.enable and backend.module else backend.own_betas
    runs: dict[tuple[int, float | None], SamplerRun] = {}

    def run(steps: int, strength: float | None) -> SamplerRun:
        if (steps, strength) not in runs:
            runs[steps, strength] = backend.sampler(settings, betas, steps, strength)
        return runs[steps, strength]

    context, strength = Context.of(settings, settings.frames), None
    if inputs.pictures is not None:
        strength = run_strength(settings, settings.frames)
    steps = settings.iterations(settings.steps) if settings.enable else [settings.steps]
    iterations = tuple(Pass(SAMPLING if number == 1 else f"FreeInit iteration {number}", run(count, strength), context)
                       for number, count in enumerate(steps, 1))
    seam = seam_of(settings, settings.frames, settings.steps) if settings.enable else None
    repair = Pass(REPAIR, run(settings.steps, settings.seam_repair), context, seam) if seam else None
    steering = Steering.of(settings, settings.frames, inputs.mask) if settings.enable else None
    said = _notices(settings, inputs, backend, iterations[0].run.steps)
    return Plan(settings, inputs, iterations, repair, steering, betas, tuple(said))


def seam_of(settings: Settings, frames: int, steps: int) -> Seam | None:
    """What of the clip is made anew around its seam; a clip that plays to and fro has none. `steps`: of the whole
    sampling, of which a repair does as many as the WebUI's img2img with this denoising strength: at least one."""
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
    for each in inputs.loras:
        lora.check_fit(each.lora.about, backend.module)


def _notices(settings: Settings, inputs: Inputs, backend: Backend, steps: int) -> list[str]:
    """What a user may not expect; none of it stops the run. steps: that are done."""
    said, module = [], backend.module
    if settings.enable and module is not None:
        found = few_steps.of_files((module.name, module.distilled), settings.prompt, backend.models.checkpoint)
        said += notices.of_clip(settings, module.name, module.family, settings.sampler, distilled=found is not None)
        grid = sampler_table.grid_of(sampler_table.get(settings.sampler), settings.schedule_type)
        said += notices.of_few_steps(found, few_steps.Run(settings.sampler, grid, settings.steps, settings.cfg),
                                     settings.preset)
        said += [note for each in inputs.loras
                 for note in lora.notices(each.lora.about, module.name, module.family.has_mid)]
    elif inputs.loras:
        said.append("motion LoRAs have no effect on stills")
    schedules = inputs.prompt, inputs.negative
    of_host = backend.notices(settings, [text for schedule in schedules for text in schedule.texts])
    if settings.cfg == 1 and settings.negative:
        said.append("the negative prompt has no effect at CFG 1")
    said += notices.of_pictures(settings, from_picture=inputs.pictures is not None)
    said += pictures.notices(settings, inputs.pictures, backend.own_size)
    said += notices.of_speed(settings, steps)
    said += [note for schedule in schedules for note in schedule.notes]
    return said + of_host
