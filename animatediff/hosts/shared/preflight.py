"""What a run will do, and what is wrong with it, told before it starts. Nothing of the host is imported here."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from animatediff import notices, windows
from animatediff.clip import pictures
from animatediff.clip.plan import seam_of
from animatediff.curves import Curve
from animatediff.errors import AnimateDiffError
from animatediff.hosts.shared.host_samplers import Sampler
from animatediff.media.timing import GIF_SHORTEST, rate
from animatediff.motion import MotionModule, lora
from animatediff.motion.inject import check_fit
from animatediff.motion.load import Description
from animatediff.motion.lora_files import LoraDescription
from animatediff.settings import BY_NAME, Settings
from animatediff.travel import Schedule

COUNTED_AT_MOST = 200_000  # windows of a pass; with more, what is shown before the run must not take seconds to count
NOT_LOADED = "no checkpoint is loaded yet, so whether the motion module fits it is not known"
# In the order in which they are shown.
LABELS = ("Frames", "Length", "Motion module", "Family", BY_NAME["motion_lora"].label, "Noise schedule",
          BY_NAME["context_length"].label, BY_NAME["overlap"].label, BY_NAME["context_schedule"].label,
          "Windows per step", "UNet calls", "Prompts")
TRAVELLING = ("Prompt travel", "Negative prompt travel")


@dataclass(frozen=True)
class Checkpoint:
    """The image model as far as motion modules care: see motion.places. `problem`: why none fits."""

    name: str = ""
    base: str = ""
    widths: tuple[int, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class Preflight:
    """`facts`: label and value. `problems`: what the run would refuse. `notices`: what may surprise.

    frames: computed per clip. played: frames of the file, as a loop may play to and fro. windows: fewest and most in
    a step. calls: of the UNet, in all passes of all clips; None where only the run can tell.
    """

    frames: int = 0
    played: int = 0
    seconds: float = 0.0
    windows: tuple[int, int] = (0, 0)
    calls: int | None = None
    facts: tuple[tuple[str, str], ...] = ()
    problems: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()
    schedules: tuple[tuple[str, Schedule], ...] = ()  # what travels, by the names in TRAVELLING

    @property
    def lines(self) -> list[str]:
        return [f"{label}: {value}" for label, value in self.facts]

    def to_dict(self) -> dict[str, Any]:
        return {"frames": self.frames, "played_frames": self.played, "seconds": self.seconds,
                "windows_per_step": list(self.windows), "unet_calls": self.calls, "lines": self.lines,
                "problems": list(self.problems), "notices": list(self.notices)}


def preflight(
    settings: Settings,
    *,
    steps: int = 20,
    from_picture: bool = False,
    slider: int = 0,
    hires_steps: int = 0,
    clips: int = 1,
    sampler: Sampler = Sampler(),
    hires_sampler: Sampler | None = None,
    module: Description | None = None,
    problem: str = "",
    checkpoint: Checkpoint | None = None,
    probe: Callable[[Iterable[str]], None] | None = None,
    read_mask: Callable[[str, int], Any] | None = None,
    source_frames: int | None = None,
    loras: Sequence[tuple[LoraDescription, Curve]] = (),
    missing: Sequence[str] = (),
    prompts: tuple[str, str] = ("", ""),
) -> Preflight:
    """
    steps: sampler steps of the first pass; of img2img (`from_picture`) those that are done. slider: the steps that are
    asked for, 0 for `steps`. hires_steps: of the second pass, 0 for none. module, problem: the motion module that the
    settings name, or why there is none. checkpoint: the loaded one, None before any is. probe: raises AnimateDiffError
    for formats that cannot be written. read_mask: raises it for a motion mask that cannot be read for so many frames.
    loras, missing: the motion LoRAs that are asked for, with their weights, and what is wrong with others. prompts: the
    prompt and the negative prompt.
    """
    frames = settings.frame_count(source_frames)
    context = settings.context_length
    played = len(windows.playback(frames, context, settings.closed_loop))
    seconds = float(played / rate(settings.fps))
    passes = [_count(settings, frames, sampler.calls(part, from_picture=from_picture))
              for part in settings.iterations(steps)]
    last = (hires_sampler or sampler) if hires_steps else sampler
    if hires_steps:
        passes.append(_count(settings, frames, last.calls(hires_steps, from_picture=True)))
    fewest, most = min(p.fewest for p in passes), max(p.most for p in passes)
    if seam := seam_of(settings, frames, slider or steps):
        again = last.calls(seam.steps, from_picture=True)
        passes.append(_Pass(1, 1, None if again is None else len(again)))
    calls = None if any(p.total is None for p in passes) else clips * sum(p.total for p in passes)

    facts = {"Frames": str(frames) if played == frames else f"{frames} \N{RIGHTWARDS ARROW} {played}",
             "Length": f"{seconds:.3g} s" + (f" \N{MULTIPLICATION SIGN} {clips}" if clips > 1 else "")}
    if module is not None:
        betas = module.family.betas
        facts |= {"Motion module": module.name, "Family": f"{module.family.name} ({module.family.base})",
                  "Noise schedule": f"{betas.kind} {betas.start:g}\N{EN DASH}{betas.end:g}"}
    if loras:
        facts[BY_NAME["motion_lora"].label] = ", ".join(f"{about.name} \N{MULTIPLICATION SIGN} {_weight(weight)}"
                                                        for about, weight in loras)
    facts[BY_NAME["context_length"].label] = str(context)
    if frames > context:
        facts |= {BY_NAME["overlap"].label: str(settings.overlap_frames),
                  BY_NAME["context_schedule"].label: settings.context_schedule}
    facts["Windows per step"] = str(fewest) if fewest == most else f"{fewest}\N{EN DASH}{most}"
    facts["UNet calls"] = _sum(passes, clips, calls)

    found = _Findings(module, checkpoint)
    found.problems += [problem, *missing] if problem else missing
    found.fit(loras)
    found.check(settings, frames, probe, read_mask)
    found.attempt(pictures.check, settings, source_frames or int(from_picture), "the request")
    found.read(settings, frames, prompts)
    if found.schedules:
        facts["Prompts"] = str(max(len(schedule.texts) for _, schedule in found.schedules))
    found.notice(settings, frames, sampler)
    found.notices += notices.of_pictures(settings, from_picture=from_picture)
    found.notices += notices.of_speed(settings, sampler.steps(steps, from_picture=from_picture))
    return Preflight(frames, played, seconds, (fewest, most), calls,
                     tuple((label, facts[label]) for label in LABELS if label in facts),
                     tuple(found.problems), tuple(found.notices), tuple(found.schedules))


@dataclass
class _Findings:
    module: Description | None
    checkpoint: Checkpoint | None
    problems: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    schedules: list[tuple[str, Schedule]] = field(default_factory=list)

    def check(self, settings: Settings, frames: int, probe: Callable | None, read_mask: Callable | None) -> None:
        """The refusals of the run, by the run's own checks."""
        if self.checkpoint is not None and self.checkpoint.problem:
            self.problems.append(self.checkpoint.problem)
        elif self.checkpoint is not None and self.module is not None:
            self.attempt(check_fit, self.checkpoint, self.module)
        if self.module is not None:  # a Description has the name and the positions, which is all that this asks for
            self.attempt(MotionModule.check_frames, self.module, min(frames, settings.context_length))
        if probe is not None:
            self.attempt(probe, settings.formats)
        if read_mask is not None:
            self.attempt(read_mask, settings.motion_mask, frames)

    def fit(self, loras: Sequence[tuple[LoraDescription, Curve]]) -> None:
        for about, _ in loras if self.module is not None else ():
            self.attempt(lora.check_fit, about, self.module)
            self.notices += lora.notices(about, self.module.name, self.module.family.has_mid)

    def read(self, settings: Settings, frames: int, prompts: tuple[str, str]) -> None:
        """The prompts, as far as they travel."""
        try:
            found = settings.schedules(*prompts, frames)
        except AnimateDiffError as error:
            self.problems.append(str(error))
            return
        self.schedules = [(name, schedule) for name, schedule in zip(TRAVELLING, found) if schedule.travels]
        self.notices += [note for schedule in found for note in schedule.notes]

    def notice(self, settings: Settings, frames: int, sampler: Sampler) -> None:
        if self.checkpoint is None and self.module is not None:
            self.notices.append(NOT_LOADED)
        if self.module is not None:
            self.notices += notices.of_clip(settings, self.module.name, self.module.family, sampler.name)
        if "GIF" in settings.formats and rate(settings.fps) * GIF_SHORTEST > 100:
            self.notices.append(f"the GIF plays at 50 frames per second, not {settings.fps:g}: viewers ignore shorter "
                                "delays")

    def attempt(self, check: Callable, *arguments: Any) -> None:
        try:
            check(*arguments)
        except AnimateDiffError as error:
            self.problems.append(str(error))


@dataclass(frozen=True)
class _Pass:
    """total: windows of all calls; None where the number of calls is unknown. exact: counted, not estimated."""

    fewest: int
    most: int
    total: int | None
    exact: bool = True


def _count(settings: Settings, frames: int, calls: list[int] | None) -> _Pass:
    key = (frames, settings.context_length, settings.stride, settings.overlap, settings.closed_loop,
           settings.context_schedule)
    first = _windows(*key, 0)
    if not calls:
        return _Pass(first, first, None if calls is None else 0)
    if first * len(set(calls)) > COUNTED_AT_MOST:
        return _Pass(first, first, first * len(calls), exact=False)
    counts = [_windows(*key, step) for step in calls]
    return _Pass(min(counts), max(counts), sum(counts))


@lru_cache(maxsize=16_384)
def _windows(frames: int, context: int, stride: int, overlap: int, closed_loop: str, schedule: str, step: int) -> int:
    return windows.count(frames, context, stride=stride, overlap=overlap, closed_loop=closed_loop, schedule=schedule,
                         step=step)


def _weight(curve: Curve) -> str:
    """One number, or the range of a weight that changes over the clip."""
    low, high = curve.extremes
    return f"{low:g}" if low == high else f"{low:g}\N{HORIZONTAL ELLIPSIS}{high:g}"


def _sum(passes: list[_Pass], clips: int, calls: int | None) -> str:
    """The UNet calls as a sum of passes times clips, such as (20 + 15) × 2 = 70."""
    if calls is None:
        return "?"
    terms = " + ".join(f"{p.total:,}" for p in passes)
    if clips > 1:
        terms = (f"({terms})" if len(passes) > 1 else terms) + f" \N{MULTIPLICATION SIGN} {clips}"
    about = "" if all(p.exact for p in passes) else "\N{ALMOST EQUAL TO} "
    return f"{about}{calls:,}" if len(passes) == clips == 1 else f"{terms} = {about}{calls:,}"
