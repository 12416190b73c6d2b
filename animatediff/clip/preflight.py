"""Check a run before it starts: what it will make, its errors and its notices."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from animatediff import few_steps, notices, windows
from animatediff.clip import counts, interpolation, pictures, sounds, writing
from animatediff.clip.backend import Steps
from animatediff.clip.interpolation import FindModel
from animatediff.clip.plan import Passes, seam_of
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

LOOKED_AT = 2000  # frames for which prompts and curves are computed, since that takes time; all key frames are checked
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
    """The properties of an image model that decide which motion modules fit, see motion.places."""

    name: str = ""
    base: str = ""
    widths: tuple[int, ...] = ()
    problem: str = ""  # reason why no motion module fits


@dataclass(frozen=True)
class Preflight:
    """The result of the check."""

    frames: int = 0  # computed per clip
    played: int = 0  # in the file; more than `frames` if the clip plays to and fro
    seconds: float = 0.0  # duration of one clip
    windows: tuple[int, int] = (0, 0)  # fewest and most in a step
    calls: int | None = None  # UNet calls in all passes of all clips; None if not known before the run
    facts: tuple[tuple[str, str], ...] = ()  # labels and values to show
    errors: tuple[AnimateDiffError, ...] = ()  # errors that the run would raise
    notices: tuple[str, ...] = ()  # effects that a user may not expect
    seam: bool = True  # whether the clip has a seam that can be repaired
    schedules: tuple[tuple[str, Schedule], ...] = ()  # prompts that change over the clip, by the names in TRAVELLING

    @property
    def problems(self) -> tuple[str, ...]:
        """The errors as text, as in the API."""
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
class RunModels:
    """The models of a run."""

    module: Description | None = None
    problem: AnimateDiffError | None = None  # reason why there is no motion module
    checkpoint: Checkpoint | None = None  # the loaded checkpoint; None before one is loaded
    loras: Loras = ()  # motion LoRAs


@dataclass(frozen=True)
class Request:
    """A requested run, to be checked.

    place: returns the steps of one run of the host's sampler.
    probe: raises AnimateDiffError if the files cannot be written with these settings.
    read_mask: raises AnimateDiffError if the motion mask cannot be read for this number of frames.
    named_loras: returns the motion LoRAs that the settings and a prompt schedule name, and errors for the others.
    find_network: returns the model file of a frame interpolation.
    find_sound: returns the sound that the settings name.
    """

    settings: Settings
    sampled: Sampled
    place: Callable[[Sampled], Steps]
    grid: str | None = None  # the schedule type in effect; None if unknown
    models: RunModels = RunModels()
    clips: int = 1  # number of clips
    source_frames: int | None = None  # number of start pictures, if each makes one frame and there is no source video
    prompts: tuple[str, str] = ("", "")
    probe: Callable[[Settings], None] | None = None
    read_mask: Callable[[str, int], Any] | None = None
    named_loras: Callable[[Schedule], tuple[Loras, list[AnimateDiffError]]] | None = None
    find_network: FindModel = lambda name, method: None
    find_sound: Callable[[Settings], Sound | None] = sounds.of
    source: SourceFrames | None = None  # frames of the source video
    problems: tuple[AnimateDiffError, ...] = ()  # known before the preflight
    mask_notices: tuple[str, ...] = ()  # notices of the source's mask

    @property
    def frames(self) -> int:
        return self.settings.frame_count(self._many)

    @property
    def pictures(self) -> int:
        """Number of start pictures."""
        return self._many or int(self.sampled.from_picture)

    @property
    def _many(self) -> int | None:
        return self.source.count if self.source and self.source.count > 1 else self.source_frames

    @cached_property
    def passes(self) -> Passes:
        return Passes.of(replace(self.settings, enable=True), self.frames, self.sampled, self.place)


def preflight(request: Request) -> Preflight:
    """Return what a run will make, with its errors and notices."""
    settings, frames = request.settings, request.frames
    settings = replace(settings, fps=settings.played_fps(request.source and request.source.fps))
    request = replace(request, settings=settings)
    played = len(windows.playback(frames, settings.context_length, settings.closed_loop))
    seconds = float(played / rate(settings.fps))
    passes = [counts.count(each) for each in request.passes.all]
    whole = [count for each, count in zip(request.passes.all, passes) if each.seam is None]
    span = min(p.fewest for p in whole), max(p.most for p in whole)
    totals = [p.total for p in passes if p.total is not None]
    calls = request.clips * sum(totals) if len(totals) == len(passes) else None
    between, notes, problem = interpolation.preflight(settings, frames, played, request.find_network)
    found = _Findings(request.models.module, request.models.checkpoint,
                      [*request.problems, *([problem] if problem else [])], [*notes])
    found.look(request)
    facts = {"Frames": str(frames) if played == frames else f"{frames} \N{RIGHTWARDS ARROW} {played}",
             "Length": duration(seconds) + (f" \N{MULTIPLICATION SIGN} {request.clips}" if request.clips > 1 else ""),
             "Windows per step": counts.sign(passes) + "\N{EN DASH}".join(f"{n:,}" for n in dict.fromkeys(span)),
             "UNet calls": counts.total(passes, request.clips, calls), **_facts(request, found.loras)}
    if between:
        facts[INTERPOLATION] = between
    if found.sound:
        facts[SOUND] = sounds.description(found.sound)
    if request.source and request.source.count > 1:
        facts[SOURCE] = request.source.chosen.description
    if found.schedules:
        facts["Prompts"] = str(max(len(schedule.texts) for _, schedule in found.schedules))
    shown = [(label, facts[label]) for label in LABELS if label in facts]
    return Preflight(frames, played, seconds, span, calls, (*shown, *found.plots),
                     tuple({str(error): error for error in found.errors}.values()), tuple(dict.fromkeys(found.notices)),
                     seam_of(replace(settings, seam_repair=1.0), frames, 1) is not None, tuple(found.schedules))


def _facts(request: Request, loras: Loras) -> dict[str, str]:
    """Return the facts about models and context windows."""
    settings, module = request.settings, request.models.module
    facts = {BY_NAME["context_length"].label: str(settings.context_length)}
    if module is not None:
        betas = module.family.betas
        facts |= {"Motion module": module.name, "Family": f"{module.family.name} ({module.family.base})",
                  "Noise schedule": f"{betas.kind} {betas.start:g}\N{EN DASH}{betas.end:g}"}
    if loras:
        facts[BY_NAME["motion_lora"].label] = ", ".join(f"{about.name} \N{MULTIPLICATION SIGN} {_weight(weight)}"
                                                        for about, weight in loras)
    if request.frames > settings.context_length:
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

    def look(self, request: Request) -> None:
        settings, frames, models = request.settings, request.frames, request.models
        self.sound = self.attempt(request.find_sound, settings)
        if self.sound or not settings.sound_file:  # otherwise the error is already recorded
            settings = self.attempt(sounds.heard, settings, self.sound, min(frames, LOOKED_AT)) or settings
            self.attempt(sounds.check, settings, min(frames, LOOKED_AT))
            request = replace(request, settings=settings)
            self.plots = self.attempt(sounds.plots, settings) or []
        self.errors += [models.problem] if models.problem else []
        self.read(request)
        self.fit()
        self.check(settings, frames, request.probe, request.read_mask)
        self.attempt(pictures.check, settings, request.pictures, "the request")
        self.notice(request, settings, frames)
        self.notices += notices.of_pictures(settings, from_picture=request.sampled.from_picture)
        self.notices += request.source.notices(replace(settings, frames=frames)) if request.source else []
        self.notices += request.mask_notices
        self.notices += notices.of_speed(settings, request.passes.iterations[0].run.steps)
        self.notices += writing.notices(settings)

    def check(self, settings: Settings, frames: int, probe: Callable | None, read_mask: Callable | None) -> None:
        """Record the errors that the run would raise, with the run's own checks."""
        if self.checkpoint is not None and self.checkpoint.problem:
            self.errors.append(AnimateDiffError(self.checkpoint.problem))
        elif self.checkpoint is not None and self.module is not None:
            self.attempt(check_fit, self.checkpoint, self.module)
        if self.module is not None:  # check_frames needs only name and positions, which a Description has
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

    def read(self, request: Request) -> None:
        """Read the prompt schedules and the motion LoRAs."""
        self.loras += request.models.loras
        try:
            found = request.settings.schedules(*request.prompts, request.frames, LOOKED_AT)
        except AnimateDiffError as error:
            self.errors.append(error)
            return
        if request.named_loras is not None:
            named, missing = request.named_loras(found[0])
            self.loras += named
            self.errors += missing
        self.schedules = [(name, schedule) for name, schedule in zip(TRAVELLING, found) if schedule.travels]
        self.notices += [note for schedule in found for note in schedule.notes]

    def notice(self, request: Request, settings: Settings, frames: int) -> None:
        if self.checkpoint is None and self.module is not None:
            self.notices.append(NOT_LOADED)
        if self.module is not None:
            checkpoint = self.checkpoint.name if self.checkpoint else ""
            found, sampled = few_steps.of_files((self.module.name, self.module.distilled), request.prompts[0],
                                                checkpoint), request.sampled
            self.notices += notices.of_clip(replace(settings, frames=frames), self.module.name, self.module.family,
                                            sampled.sampler, distilled=found is not None)
            if request.grid is not None:
                run = few_steps.Run(sampled.sampler, request.grid, sampled.steps, sampled.cfg)
                self.notices += notices.of_few_steps(found, run, settings.preset)
        fps = interpolation.played_fps(settings)
        if "GIF" in settings.formats and fps * GIF_SHORTEST > 100:
            self.notices.append(f"the GIF plays at 50 frames per second, not {float(fps):g}: viewers ignore shorter "
                                "delays")

    def attempt(self, check: Callable, *arguments: Any) -> Any:
        """Return the result of `check`, or None after recording the error that it raised."""
        try:
            return check(*arguments)
        except AnimateDiffError as error:
            self.errors.append(error)


def _weight(curve: Curve) -> str:
    """Return a weight as text: a number, the range of a weight that changes over the clip, or its expressions."""
    low, high = curve.extremes
    if curve.expressions:
        return str(curve)
    return f"{low:g}" if low == high else f"{low:g}\N{HORIZONTAL ELLIPSIS}{high:g}"
