"""A finished clip, from its files: its times, the settings that it carries, and its frames at another rate."""
from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from animatediff import settings as table
from animatediff.clip.interpolation import Interpolation, closes
from animatediff.clip.provenance import metadata_text
from animatediff.errors import AnimateDiffError
from animatediff.media import metadata, read
from animatediff.media.interpolate import Stream, plan
from animatediff.media.timing import rate
from animatediff.settings import Settings

CLOSE_ENOUGH = Fraction(1, 25)  # by which a container's times may differ from the rate that the settings say
_LOOP_OF_INFOTEXT = re.compile(r"\bclosed_loop: ([\w+-]+)")


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
        stated, steady, whole = _stated_rate(_about(text)), plan.steady_rate(seconds), sum(seconds, Fraction(0))
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
        """None where it carries none, or such as this version does not know."""
        with suppress(AnimateDiffError, KeyError):
            return table.parse(_about(self.text)["settings"])
        return None

    @property
    def closes(self) -> bool:
        """Whether the last frame leads to the first, by the settings."""
        if s := self.settings:
            return closes(s, s.frame_count())
        found = _LOOP_OF_INFOTEXT.search(self.text)  # of the WebUI
        return found is not None and found[1] not in ("none", "N", "False")

    def described(self, interpolation: Interpolation, plays: Fraction) -> str:
        """The clip's text with a note of the interpolation. plays: frames per second of the result."""
        note = interpolation.note() | {"fps": round(float(plays), 3)}
        if about := _about(self.text):
            return metadata_text(about | {"interpolation": [*_steps(about), note]})
        if not self.text:
            return metadata_text({"interpolation": [note]})
        return f"{self.text}, AnimateDiff interpolation: {note['method']} {note['from_fps']:g} to {note['fps']:g} fps"

    def count(self, fps: Fraction) -> int:
        """Its frames at another rate."""
        return plan.count(sum(self.seconds, Fraction(0)), fps)

    def frames(self, stream: Stream) -> Iterator[np.ndarray]:
        """What the stream makes of its frames, one by one."""
        for picture, seconds in zip(read.pictures(self.path), self.seconds):
            yield from stream.push(np.asarray(picture), seconds)
        yield from stream.finish()


def _about(text: str) -> dict[str, Any]:
    with suppress(ValueError, RecursionError):
        about = json.loads(text)
        return about if isinstance(about, dict) and isinstance(about.get("settings"), dict) else {}
    return {}


def _steps(about: dict[str, Any]) -> list[dict[str, Any]]:
    """The interpolations that a clip has been through."""
    steps = about.get("interpolation")
    return [step for step in steps if isinstance(step, dict)] if isinstance(steps, list) else []


def _stated_rate(about: dict[str, Any]) -> Fraction | None:
    value = [about.get("settings", {}), *_steps(about)][-1].get("fps")
    with suppress(AnimateDiffError):
        return rate(value) if isinstance(value, (int, float)) else None
    return None
