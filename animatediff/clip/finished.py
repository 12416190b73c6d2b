"""A finished clip, from its files: its times, the settings that it carries, and its frames at another rate."""
from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from animatediff import settings as table
from animatediff.clip import infotext
from animatediff.clip.interpolation import Interpolation, closes
from animatediff.clip.provenance import metadata_text
from animatediff.errors import AnimateDiffError
from animatediff.media import metadata, read
from animatediff.media.interpolate import Stream, plan
from animatediff.media.read import alpha_of
from animatediff.media.sound import Sound
from animatediff.media.sound import find as find_sound
from animatediff.media.source import Source
from animatediff.media.stored import StoredPictures
from animatediff.media.timing import rate
from animatediff.media.transparency import AlphaChannels
from animatediff.media.write import format_of
from animatediff.settings import Settings

INTERPOLATION, REFINED = "interpolation", "refined"  # what the text says of what was done to a clip
CLOSE_ENOUGH = Fraction(1, 25)  # by which a container's times may differ from the rate that the settings say


@dataclass(frozen=True)
class Finished:
    """path: a file, or a folder of pictures. seconds: of each frame. fps: frames per second, on average where they are
    not shown equally long. text: what the clip carries."""

    path: Path
    seconds: tuple[Fraction, ...]
    fps: Fraction
    text: str

    @classmethod
    def read(cls, path: Path, fps: float | None = None) -> Finished:
        """fps: overrules what the files say. MediaError where there is no clip."""
        seconds = [Fraction(each).limit_denominator(10**6) for each in read.durations(path)]
        with suppress(AnimateDiffError):  # whatever is wrong with the file, its frames have been read
            text = metadata.read(read.in_folder(path)[0] if path.is_dir() else path) or ""
            return cls._timed(path, seconds, fps, text)
        return cls._timed(path, seconds, fps, "")

    @classmethod
    def _timed(cls, path: Path, seconds: list[Fraction], fps: float | None, text: str) -> Finished:
        stated, steady, whole = _stated_rate(about(text)), plan.steady_rate(seconds), sum(seconds, Fraction(0))
        if fps is None and whole and steady is None:
            return cls(path, tuple(seconds), (len(seconds) / whole).limit_denominator(1001), text)
        if fps is not None:
            found = rate(fps)
        elif steady and not (stated and abs(stated - steady) <= CLOSE_ENOUGH * stated):
            found = rate(steady)
        else:
            found = stated or rate(table.BY_NAME["fps"].default)
        return cls(path, (1 / found,) * len(seconds), found, text)

    @property
    def settings(self) -> Settings | None:
        """Of the run that made it; None where it carries none, or such as this version does not know."""
        with suppress(AnimateDiffError):
            values = about(self.text).get("settings") or infotext.of_webui(self.text)
            return table.parse(values) if values else None
        return None

    @property
    def closes(self) -> bool:
        """Whether the last frame leads to the first, by the settings."""
        return (s := self.settings) is not None and closes(s, s.frame_count())

    @property
    def loop_number(self) -> int:
        """How many times it plays, 0 for ever: by its settings, or by its file."""
        return self.settings.loop_number if self.settings else read.plays(self.path)

    @property
    def sound(self) -> Sound | None:
        """None where it has none, or where that cannot be read."""
        with suppress(AnimateDiffError):
            return find_sound(self.path)
        return None

    @property
    def format(self) -> str:
        """The format of its file, for what is made of it; MP4 for formats that are not written."""
        if self.path.is_dir():
            return "PNG"
        found = format_of(self.path) or "MP4"
        return "APNG" if found == "PNG" else found  # one picture is no clip

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of its first frame."""
        return next(read.pictures(self.path)).size

    def alpha(self, size: tuple[int, int], fit: str = "crop") -> StoredPictures | None:
        """The alpha channels of its frames, uint8 [f h w] in this width and height; None where it is opaque."""
        source, channels = Source.open(self.path), AlphaChannels(size, fit)
        for frame, alpha in source.pictures(range(len(source.timeline.times)), lambda each: (each, alpha_of(each))):
            if source.is_video and frame.mode == "RGB":  # which then all frames are
                return None
            channels.add(alpha, frame.size)
        return channels.pictures

    def described(self, interpolation: Interpolation, plays: Fraction) -> str:
        """The clip's text with a note of the interpolation. plays: frames per second of the result."""
        note = interpolation.note() | {"fps": round(float(plays), 3)}
        if made := about(self.text):
            return metadata_text(made | {INTERPOLATION: [*steps(made, INTERPOLATION), note]})
        if not self.text:
            return metadata_text({INTERPOLATION: [note]})
        return f"{self.text}, AnimateDiff interpolation: {note['method']} {note['from_fps']:g} to {note['fps']:g} fps"

    def count(self, fps: Fraction) -> int:
        """Its frames at another rate."""
        return plan.count(sum(self.seconds, Fraction(0)), fps)

    def frames(self, stream: Stream) -> Iterator[np.ndarray]:
        """What the stream makes of its frames, one by one."""
        for picture, seconds in zip(read.pictures(self.path), self.seconds):
            yield from stream.push(np.asarray(picture), seconds)
        yield from stream.finish()


def about(text: str) -> dict[str, Any]:
    """What a file's text says, as far as it is this program's own; {} for other texts."""
    with suppress(ValueError, RecursionError):
        found = json.loads(text)
        if isinstance(found, dict) and found.keys() & {"settings", INTERPOLATION, REFINED}:
            return found
    return {}


def steps(about: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    """What has been done to a clip since it was made, of this kind: INTERPOLATION or REFINED."""
    found = about.get(kind)
    return [step for step in found if isinstance(step, dict)] if isinstance(found, list) else []


def _stated_rate(about: dict[str, Any]) -> Fraction | None:
    made = about.get("settings")
    value = [made if isinstance(made, dict) else {}, *steps(about, INTERPOLATION)][-1].get("fps")
    with suppress(AnimateDiffError):
        return rate(value) if isinstance(value, (int, float)) else None
    return None
