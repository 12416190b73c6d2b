"""What a run will do, and what is wrong with it, told before it starts."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from animatediff import few_steps, notices, windows
from animatediff.clip import interpolation, pictures, sounds, writing
from animatediff.clip.backend import Steps
from animatediff.clip.interpolation import FindModel
from animatediff.clip.plan import Pass, Passes, seam_of
from animatediff.clip.sampled import Sampled
from animatediff.clip.source import SourceFrames
from animatediff.curves import Curve
from animatediff.errors import AnimateDiffError
from animatediff.media.sound import Sound
from animatediff.media.timing import GIF_SHORTEST, duration, rate
from animatediff.motion import MotionModule, lora
from animatediff.motion.inject import check_fit
from animatediff.motion.load import Description
from animatediff.motion.lora_files import LoraDescription
from animatediff.settings import BY_NAME, Settings
from animatediff.travel import Schedule

COUNTED_AT_MOST = 100_000  # frames in all windows of a pass; more are estimated, since counting takes time
LOOKED_AT = 2000  # frames of the prompts, for the same reason; and all key frames
NOT_LOADED = "no checkpoint is loaded yet, so whether the motion module fits it is not known"
# In the order in which they are shown.
INTERPOLATION, SOURCE = BY_NAME["interp"].label, BY_NAME["video_source"].label
SOUND = BY_NAME["audio"].label
LABELS = ("Frames", "Length", SOURCE, INTERPOLATION, SOUND, "Motion module", "Family", BY_NAME["motion_lora"].label,
          "Noise schedule", BY_NAME["context_length"].label, BY_NAME["overlap"].label,
          BY_NAME["context_schedule"].label, "Windows per step", "UNet calls", "Prompts")
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
    """`facts`: label and value. `errors`: what the run would refuse. `notices`: what may surprise.

    frames: computed per clip. played: frames of the file, as a loop may play to and fro. windows: fewest and most in
    a step. calls: of the UNet, in all passes of all clips; None where only the run can tell. seam: whether there is one
    that could be repaired.
    """

    frames: int = 0
    played: int = 0
    seconds: float = 0.0
    windows: tuple[int, int] = (0, 0)
    calls: int | None = None
    facts: tuple[tuple[str, str], ...] = ()
    errors: tuple[AnimateDiffError, ...] = ()
    notices: tuple[str, ...] = ()
    seam: bool = True
    schedules: tuple[tuple[str, Schedule], ...] = ()  # what travels, by the names in TRAVELLING

    @property
    def problems(self) -> tuple[str, ...]:
        """The errors in the words of the API."""
        return tuple(map(str, self.errors))

    @property
    def lines(self) -> list[str]:
        return [f"{label}: {value}" for label, value in self.facts]

    def to_dict(self) -> dict[str, Any]:
        return {"frames": self.frames, "played_frames": self.played, "seconds": self.seconds,
                "windows_per_step": list(self.windows), "unet_calls": self.calls, "lines": self.lines,
                "problems": list(self.problems), "notices": list(self.notices)}


Loras = Sequence[tuple[LoraDescription, Curve]]  # with their weights


@dataclass(frozen=True)
class Found:
    """What was found of the models that a run names. problem: why there is no module. checkpoint: the loaded one, None
    before any is. loras: motion LoRAs."""

    module: Description | None = None
    problem: AnimateDiffError | None = None
    checkpoint: Checkpoint | None = None
    loras: Loras = ()


@dataclass(frozen=True)
class Asked:
    """A run that is asked for.

    place: the steps of one run of the host's sampler. grid: the schedule type that acts, None where it is not known.
    source: frames of the source video. source_frames: pictures of a source that is no video, where those make the
    frames. probe: raises AnimateDiffError for files that cannot be written as the settings say; read_mask: for a motion
    mask that cannot be read for so many frames. named_loras: the motion LoRAs that the settings and a schedule of
    prompts name, and what is wrong with others. find_sound: the sound that the settings name.
    """

    settings: Settings
    sampled: Sampled
    place: Callable[[Sampled], Steps]
    grid: str | None = None
    found: Found = Found()
    clips: int = 1
    source_frames: int | None = None
    prompts: tuple[str, str] = ("", "")
    probe: Callable[[Settings], None] | None = None
    read_mask: Callable[[str, int], Any] | None = None
    named_loras: Callable[[Schedule], tuple[Loras, list[AnimateDiffError]]] | None = None
    find_rife: FindModel = lambda name: None
    find_sound: Callable[[Settings], Sound | None] = sounds.of
    source: SourceFrames | None = None

    @property
    def frames(self) -> int:
        return self.settings.frame_count(self._many)

    @property
    def pictures(self) -> int:
        """How many the clip starts from."""
        return self._many or int(self.sampled.from_picture)

    @property
    def _many(self) -> int | None:
        return self.source.count if self.source and self.source.count > 1 else self.source_frames

    @cached_property
    def passes(self) -> Passes:
        return Passes.of(replace(self.settings, enable=True), self.frames, self.sampled, self.place)


def preflight(asked: Asked) -> Preflight:
    """What a run will do, and what is wrong with it."""
    settings, frames = asked.settings, asked.frames
    settings = replace(settings, fps=settings.played_fps(asked.source and asked.source.fps))
    asked = replace(asked, settings=settings)
    played = len(windows.playback(frames, settings.context_length, settings.closed_loop))
    seconds = float(played / rate(settings.fps))
    passes = [_count(each) for each in asked.passes.all]
    whole = [count for each, count in zip(asked.passes.all, passes) if each.seam is None]
    span = min(p.fewest for p in whole), max(p.most for p in whole)
    totals = [p.total for p in passes if p.total is not None]
    calls = asked.clips * sum(totals) if len(totals) == len(passes) else None
    between, problem = interpolation.said(settings, frames, played, asked.find_rife)
    found = _Findings(asked.found.module, asked.found.checkpoint, [problem] if problem else [])
    found.look(asked)
    facts = {"Frames": str(frames) if played == frames else f"{frames} \N{RIGHTWARDS ARROW} {played}",
             "Length": duration(seconds) + (f" \N{MULTIPLICATION SIGN} {asked.clips}" if asked.clips > 1 else ""),
             "Windows per step": _about(passes) + "\N{EN DASH}".join(f"{n:,}" for n in dict.fromkeys(span)),
             "UNet calls": _sum(passes, asked.clips, calls), **_facts(asked, found.loras)}
    if between:
        facts[INTERPOLATION] = between
    if found.sound:
        facts[SOUND] = sounds.told(found.sound)
    if asked.source and asked.source.count > 1:
        facts[SOURCE] = asked.source.chosen.told
    if found.schedules:
        facts["Prompts"] = str(max(len(schedule.texts) for _, schedule in found.schedules))
    shown = [(label, facts[label]) for label in LABELS if label in facts]
    return Preflight(frames, played, seconds, span, calls, (*shown, *found.plots),
                     tuple({str(error): error for error in found.errors}.values()), tuple(dict.fromkeys(found.notices)),
                     seam_of(replace(settings, seam_repair=1.0), frames, 1) is not None, tuple(found.schedules))


def _facts(asked: Asked, loras: Loras) -> dict[str, str]:
    """What is told of the models and of the windows."""
    settings, module = asked.settings, asked.found.module
    facts = {BY_NAME["context_length"].label: str(settings.context_length)}
    if module is not None:
        betas = module.family.betas
        facts |= {"Motion module": module.name, "Family": f"{module.family.name} ({module.family.base})",
                  "Noise schedule": f"{betas.kind} {betas.start:g}\N{EN DASH}{betas.end:g}"}
    if loras:
        facts[BY_NAME["motion_lora"].label] = ", ".join(f"{about.name} \N{MULTIPLICATION SIGN} {_weight(weight)}"
                                                        for about, weight in loras)
    if asked.frames > settings.context_length:
        facts |= {BY_NAME["overlap"].label: str(settings.overlap_frames),
                  BY_NAME["context_schedule"].label: settings.context_schedule}
    return facts


@dataclass
class _Findings:
    module: Description | None
    checkpoint: Checkpoint | None
    errors: list[AnimateDiffError] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    schedules: list[tuple[str, Schedule]] = field(default_factory=list)
    loras: list[tuple[LoraDescription, Curve]] = field(default_factory=list)
    sound: Sound | None = None
    plots: list[tuple[str, str]] = field(default_factory=list)

    def look(self, asked: Asked) -> None:
        settings, frames, found = asked.settings, asked.frames, asked.found
        self.sound = self.attempt(asked.find_sound, settings)
        if self.sound or not settings.audio:  # else the error is told already
            settings = self.attempt(sounds.heard, settings, self.sound, min(frames, LOOKED_AT)) or settings
            self.attempt(sounds.check, settings, min(frames, LOOKED_AT))
            asked = replace(asked, settings=settings)
            self.plots = self.attempt(sounds.plots, settings) or []
        self.errors += [found.problem] if found.problem else []
        self.read(asked)
        self.fit()
        self.check(settings, frames, asked.probe, asked.read_mask)
        self.attempt(pictures.check, settings, asked.pictures, "the request")
        self.notice(asked, settings, frames)
        self.notices += notices.of_pictures(settings, from_picture=asked.sampled.from_picture)
        self.notices += asked.source.notices(replace(settings, frames=frames)) if asked.source else []
        self.notices += notices.of_speed(settings, asked.passes.iterations[0].run.steps)
        self.notices += writing.notices(settings)

    def check(self, settings: Settings, frames: int, probe: Callable | None, read_mask: Callable | None) -> None:
        """The refusals of the run, by the run's own checks."""
        if self.checkpoint is not None and self.checkpoint.problem:
            self.errors.append(AnimateDiffError(self.checkpoint.problem))
        elif self.checkpoint is not None and self.module is not None:
            self.attempt(check_fit, self.checkpoint, self.module)
        if self.module is not None:  # a Description has the name and the positions, which is all that this asks for
            self.attempt(MotionModule.check_frames, self.module, min(frames, settings.context_length))
        if probe is not None:
            self.attempt(probe, settings)
        if read_mask is not None:
            self.attempt(read_mask, settings.motion_mask, frames)

    def fit(self) -> None:
        if self.module is None:
            return
        for about, _ in self.loras:
            self.attempt(lora.check_fit, about, self.module)
            self.notices += lora.notices(about, self.module.name, self.module.family.has_mid)

    def read(self, asked: Asked) -> None:
        """The prompts, as far as they travel, and the motion LoRAs."""
        self.loras += asked.found.loras
        try:
            found = asked.settings.schedules(*asked.prompts, asked.frames, LOOKED_AT)
        except AnimateDiffError as error:
            self.errors.append(error)
            return
        if asked.named_loras is not None:
            named, missing = asked.named_loras(found[0])
            self.loras += named
            self.errors += missing
        self.schedules = [(name, schedule) for name, schedule in zip(TRAVELLING, found) if schedule.travels]
        self.notices += [note for schedule in found for note in schedule.notes]

    def notice(self, asked: Asked, settings: Settings, frames: int) -> None:
        if self.checkpoint is None and self.module is not None:
            self.notices.append(NOT_LOADED)
        if self.module is not None:
            checkpoint = self.checkpoint.name if self.checkpoint else ""
            found, sampled = few_steps.of_files((self.module.name, self.module.distilled), asked.prompts[0],
                                                checkpoint), asked.sampled
            self.notices += notices.of_clip(settings, self.module.name, self.module.family, sampled.sampler,
                                            distilled=found is not None)
            if asked.grid is not None:
                run = few_steps.Run(sampled.sampler, asked.grid, sampled.steps, sampled.cfg)
                self.notices += notices.of_few_steps(found, run, settings.preset)
        fps = interpolation.played_fps(settings)
        if "GIF" in settings.formats and fps * GIF_SHORTEST > 100:
            self.notices.append(f"the GIF plays at 50 frames per second, not {float(fps):g}: viewers ignore shorter "
                                "delays")

    def attempt(self, check: Callable, *arguments: Any) -> Any:
        """What it answers, None where it refuses."""
        try:
            return check(*arguments)
        except AnimateDiffError as error:
            self.errors.append(error)


@dataclass(frozen=True)
class _Count:
    """Windows of a pass, fewest and most in a step. total: of all calls; None where the number of calls is unknown.
    exact: counted, not estimated."""

    fewest: int
    most: int
    total: int | None
    exact: bool = True


def _count(part: Pass) -> _Count:
    context, calls = part.context, part.run.call_steps
    if part.seam is not None:
        return _Count(1, 1, None if calls is None else len(calls))
    about = {step: context.about(step) for step in set(calls or [0])}
    exact = sum(about.values()) * context.length <= COUNTED_AT_MOST
    counts = {step: context.calls(step) for step in about} if exact else about
    total = None if calls is None else sum(counts[step] for step in calls)
    return _Count(min(counts.values()), max(counts.values()), total, exact)


def _about(passes: list[_Count]) -> str:
    """What stands before numbers that are estimated."""
    return "" if all(p.exact for p in passes) else "\N{ALMOST EQUAL TO} "


def _weight(curve: Curve) -> str:
    """One number, or the range of a weight that changes over the clip."""
    low, high = curve.extremes
    if curve.expressions:
        return str(curve)
    return f"{low:g}" if low == high else f"{low:g}\N{HORIZONTAL ELLIPSIS}{high:g}"


def _sum(passes: list[_Count], clips: int, calls: int | None) -> str:
    """The UNet calls as a sum of passes times clips, such as (20 + 15) × 2 = 70."""
    if calls is None:
        return "?"
    terms = " + ".join(f"{p.total:,}" for p in passes)
    if clips > 1:
        terms = (f"({terms})" if len(passes) > 1 else terms) + f" \N{MULTIPLICATION SIGN} {clips}"
    about = _about(passes)
    return f"{about}{calls:,}" if len(passes) == clips == 1 else f"{terms} = {about}{calls:,}"
