"""The sound of a clip, as its settings ask for it, and the curves that follow it."""
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

BARS, PLOTTED = "▁▂▃▄▅▆▇█", 48  # of a plot, and the most of them


def of(settings: Settings, path: Path | None = None) -> Sound | None:
    """The sound that is heard with the clip, None for none. path: where `settings.audio` is, if not where it says.
    MediaError for a file without sound or one that cannot be read, SettingsError for a start behind its end."""
    if not settings.audio:
        return None
    found = sound.find(path or user_paths.named(settings.audio))
    if found is None:
        raise MediaError("has no sound", where=end_of(settings.audio), remedy=sound.REMEDY)
    if found.seconds is not None and settings.audio_start >= found.seconds:
        raise SettingsError(f"the sound ends before {settings.audio_start:g} s", where="audio_start",
                            remedy=f"Use less than {duration(float(found.seconds))}")
    return found.part(settings.audio_start, loop=settings.audio_loop)


def heard(settings: Settings, found: Sound | None, frames: int) -> Settings:
    """The settings with the levels of the sound, from which curves and prompts of so many frames are computed."""
    return settings if found is None else replace(settings, levels=hearing.of(found, settings.fps, frames))


def follows(settings: Settings) -> tuple[Follow, ...]:
    """What the curves, the weights of motion LoRAs and the prompt weights follow of a sound."""
    curves = [Curve.read(getattr(settings, p.name)) for p in PARAMETERS if p.form == "curve"]
    curves += [wish.weight for wish in loras.read(settings.motion_lora)]
    found = [follow for curve in curves for follow in curve.follows]
    for text in travel.weights(settings.prompt_weights).values():
        found += Expression.read(text, travel.NAMES, "prompt_weights").follows
    return tuple(dict.fromkeys(found))


def check(settings: Settings, frames: int) -> None:
    """SettingsError for a curve that cannot be computed, and for one that follows a sound where there is none."""
    for p in PARAMETERS:
        if p.form == "curve":
            settings.curve(p.name, frames)
    for wish in loras.read(settings.motion_lora):
        wish.weight.values(frames, settings.levels)


def told(found: Sound) -> str:
    """Such as "music.mp3 from 12 s, repeated"."""
    start = f" from {duration(float(found.begin))}" if found.begin else ""
    return f"{found.path.name}{start}{', repeated' if found.loop else ''}"


def plots(settings: Settings) -> list[tuple[str, str]]:
    """What the settings follow of their sound, such as audio(bass), and its levels over the clip as a line of bars."""
    return [] if settings.levels is None else [(str(each), plot(settings.levels(each))) for each in follows(settings)]


def plot(levels: Sequence[float]) -> str:
    """A bar for each frame; of a long clip one for the greatest of several."""
    count = min(len(levels), PLOTTED)
    borders = [i * len(levels) // count for i in range(count + 1)]
    greatest = [max(levels[begin:end]) for begin, end in pairwise(borders)]
    return "".join(BARS[min(int(level * len(BARS)), len(BARS) - 1)] for level in greatest)
