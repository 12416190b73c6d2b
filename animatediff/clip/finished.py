"""Read a finished clip from its files: frame times, stored settings, sound, and frames at another rate."""
from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from animatediff import settings as table
from animatediff.clip import infotext
from animatediff.clip.interpolation import Interpolation, closes
from animatediff.clip.provenance import metadata_text
from animatediff.errors import AnimateDiffError
from animatediff.media import metadata, read
from animatediff.media.interpolate import Stream, plan
from animatediff.media.measure.score import Score, ScoreMeter
from animatediff.media.read import alpha_of
from animatediff.media.sound import Sound
from animatediff.media.sound import find as find_sound
from animatediff.media.source import Source
from animatediff.media.stored import StoredPictures
from animatediff.media.timing import rate
from animatediff.media.transparency import AlphaChannels
from animatediff.media.write import format_of
from animatediff.settings import Settings

INTERPOLATION, REFINED = "interpolation", "refined"  # keys in a clip's text for later processing
CLOSE_ENOUGH = Fraction(1, 25)  # largest relative difference between the container's rate and the settings' rate


@dataclass(frozen=True)
class Finished:
    """A finished clip."""

    path: Path  # a file, or a folder of pictures
    seconds: tuple[Fraction, ...]  # duration of each frame
    fps: Fraction  # frames per second; the average if frames have different durations
    text: str  # settings text stored in the clip, "" if there is none

    @classmethod
    def read(cls, path: Path, fps: float | None = None) -> Finished:
        """Read a clip.

        fps: replaces the rate that the files have.
        Raises MediaError if there is no clip.
        """
        seconds = [Fraction(each).limit_denominator(10**6) for each in read.durations(path)]
        with suppress(AnimateDiffError):  # the frames can be read even if the text cannot
            text = metadata.read(read.in_folder(path)[0] if path.is_dir() else path) or ""
            return cls._timed(path, seconds, fps, text)
        return cls._timed(path, seconds, fps, "")

    @classmethod
    def _timed(cls, path: Path, seconds: list[Fraction], fps: float | None, text: str) -> Finished:
        stated, steady, whole = _stated_rate(about(text)), plan.steady_rate(seconds), sum(seconds, Fraction(0))
        if fps is None and whole and steady is None:
            return cls(path, tuple(seconds), (len(seconds) / whole).limit_denominator(1001), text)
        if fps is not None:
            found = rate(fps, "from_fps")
        elif steady and not (stated and abs(stated - steady) <= CLOSE_ENOUGH * stated):
            found = rate(steady)
        else:
            found = stated or rate(table.BY_NAME["fps"].default)
        return cls(path, (1 / found,) * len(seconds), found, text)

    @property
    def settings(self) -> Settings | None:
        """Settings of the run that made the clip, or None if there are none that this version can read."""
        with suppress(AnimateDiffError):
            values = about(self.text).get("settings") or infotext.of_webui(self.text)
            return table.parse(values) if values else None
        return None

    @property
    def closes(self) -> bool:
        """Whether the clip is a loop according to its settings: its last frame leads to the first."""
        return (s := self.settings) is not None and closes(s, s.frame_count())

    @property
    def loop_number(self) -> int:
        """How many times the clip plays, 0 for endlessly. Taken from its settings, else from its file."""
        return self.settings.loop_number if self.settings else read.plays(self.path)

    @property
    def sound(self) -> Sound | None:
        """The clip's sound, or None if it has none or it cannot be read."""
        with suppress(AnimateDiffError):
            return find_sound(self.path)
        return None

    @property
    def format(self) -> str:
        """The file format for clips made from this one: its own, or MP4 if that format cannot be written."""
        if self.path.is_dir():
            return "PNG"
        found = format_of(self.path) or "MP4"
        return "APNG" if found == "PNG" else found  # PNG holds one picture only

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the first frame."""
        return next(self.pictures()).size

    def pictures(self) -> Iterator[Image.Image]:
        """Yield the frames in RGB. Raises MediaError if their sizes differ."""
        yield from map(read.one_size(self.path), read.pictures(self.path))

    def _with_alpha(self) -> Iterator[Image.Image]:
        """Yield the frames in RGBA. Raises MediaError if their sizes differ."""
        source = Source.open(self.path)
        yield from map(read.one_size(self.path), source.pictures(range(len(source.timeline.times)), read.with_alpha))

    def alpha(self, size: tuple[int, int], fit: str = "crop") -> StoredPictures | None:
        """Return the frames' alpha channels, uint8 [f h w] in this width and height; None for an opaque clip.

        Raises MediaError if the frames' sizes differ.
        """
        source, channels, checked = Source.open(self.path), AlphaChannels(size, fit), read.one_size(self.path)
        for frame, alpha in source.pictures(range(len(source.timeline.times)), lambda each: (each, alpha_of(each))):
            if source.is_video and frame.mode == "RGB":  # which then all frames are
                return None
            channels.add(alpha, checked(frame).size)
        return channels.pictures

    def described(self, interpolation: Interpolation, plays: Fraction) -> str:
        """Return the clip's text with a note on the interpolation. plays: frames per second of the result."""
        note = interpolation.note() | {"fps": round(float(plays), 3)}
        if made := about(self.text):
            return metadata_text(made | {INTERPOLATION: [*steps(made, INTERPOLATION), note]})
        if not self.text:
            return metadata_text({INTERPOLATION: [note]})
        return f"{self.text}, AnimateDiff interpolation: {note['method']} {note['from_fps']:g} to {note['fps']:g} fps"

    def count(self, fps: Fraction) -> int:
        """Return the number of frames at another rate."""
        return plan.count(sum(self.seconds, Fraction(0)), fps)

    def frames(self, stream: Stream, *, transparent: bool = False) -> Iterator[np.ndarray]:
        """Yield the clip's frames as interpolated by `stream`. transparent: with their alpha channels."""
        pictures = self._with_alpha() if transparent else self.pictures()
        for picture, seconds in zip(pictures, self.seconds):
            yield from stream.push(np.asarray(picture), seconds)
        yield from stream.finish()

    def measured(self, watched: Callable[[Iterable[Any]], Iterable[Any]] = iter) -> Score:
        """Return the clip's score: flicker, colour drift and so on. watched: wraps the frames to show progress."""
        meter = ScoreMeter()
        for picture, seconds in watched(zip(self.pictures(), self.seconds)):
            meter.add(np.asarray(picture), seconds)
        return meter.score


def about(text: str) -> dict[str, Any]:
    """Return the JSON object in a file's text, or {} if the text was not written by this program."""
    with suppress(ValueError, RecursionError):
        found = json.loads(text)
        if isinstance(found, dict) and found.keys() & {"settings", INTERPOLATION, REFINED}:
            return found
    return {}


def steps(about: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    """Return the notes on later processing of this kind, INTERPOLATION or REFINED."""
    found = about.get(kind)
    return [step for step in found if isinstance(step, dict)] if isinstance(found, list) else []


def _stated_rate(about: dict[str, Any]) -> Fraction | None:
    made = about.get("settings")
    value = [made if isinstance(made, dict) else {}, *steps(about, INTERPOLATION)][-1].get("fps")
    with suppress(AnimateDiffError):
        return rate(value) if isinstance(value, (int, float)) else None
    return None
