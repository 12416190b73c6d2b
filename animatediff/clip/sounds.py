"""Find the sound that a clip's settings name, and compute the curves that follow it."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from animatediff import loras, travel, user_paths
from animatediff.curves import Curve
from animatediff.errors import MediaError, SettingsError, end_of
from animatediff.media import hearing, sound
from animatediff.media.sound import Sound
from animatediff.media.timing import duration
from animatediff.settings import PARAMETERS, Settings
from animatediff.travel.expressions import Expression, Follow

BARS, PLOTTED = "▁▂▃▄▅▆▇█", 48  # characters of a plot, and its largest length


def of(settings: Settings, path: Path | None = None) -> Sound | None:
    """Return the sound of the clip, or None if the settings name none.

    path: path of the file, if it differs from `settings.audio`.
    Raises MediaError if the file has no sound or cannot be read, SettingsError if `audio_start` is after its end.
    """
    if not settings.sound_file:
        return None
    found = sound.find(path or user_paths.named(settings.audio))
    if found is None:
        raise MediaError("has no sound", where=end_of(settings.audio), remedy=sound.REMEDY)
    if found.seconds is not None and settings.audio_start >= found.seconds:
        raise SettingsError(f"the sound ends before {settings.audio_start:g} s", where="audio_start",
                            remedy=f"Use less than {duration(float(found.seconds))}")
    return found.part(settings.audio_start, loop=settings.audio_loop)


def heard(settings: Settings, found: Sound | None, frames: int) -> Settings:
    """Return the settings with the sound's levels, from which curves and prompts of `frames` frames are computed."""
    return settings if found is None else replace(settings, levels=hearing.of(found, settings.fps, frames))


def follows(settings: Settings) -> tuple[Follow, ...]:
    """Return the sound levels that curves, motion LoRA weights and prompt weights follow."""
    curves = [Curve.read(getattr(settings, p.name)) for p in PARAMETERS if p.form == "curve"]
    curves += [wish.weight for wish in loras.read(settings.motion_lora)]
    found = [follow for curve in curves for follow in curve.follows]
    for text in travel.weights(settings.prompt_weights).values():
        found += Expression.read(text, travel.NAMES, "prompt_weights").follows
    return tuple(dict.fromkeys(found))


def check(settings: Settings, frames: int) -> None:
    """Raise SettingsError if a curve cannot be computed, or follows a sound and there is none."""
    for p in PARAMETERS:
        if p.form == "curve":
            settings.curve(p.name, frames)
    for wish in loras.read(settings.motion_lora):
        wish.weight.values(frames, settings.levels)


def description(found: Sound) -> str:
    """Return text such as "music.mp3 from 12 s, repeated"."""
    start = f" from {duration(float(found.begin))}" if found.begin else ""
    return f"{found.path.name}{start}{', repeated' if found.loop else ''}"


def plots(settings: Settings) -> list[tuple[str, str]]:
    """Return the levels that the settings follow, such as audio(bass), each with a plot over the clip."""
    return [] if settings.levels is None else [(str(each), plot(settings.levels(each))) for each in follows(settings)]


def plot(levels: Sequence[float]) -> str:
    """Return a line of bars, one for each frame. In a long clip, one bar shows the maximum of several frames."""
    count = min(len(levels), PLOTTED)
    borders = [i * len(levels) // count for i in range(count + 1)]
    greatest = [max(levels[begin:end]) for begin, end in pairwise(borders)]
    return "".join(BARS[min(int(level * len(BARS)), len(BARS) - 1)] for level in greatest)
