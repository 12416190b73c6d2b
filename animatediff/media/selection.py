"""Which frames of a source video a clip takes: by time, at a target rate, every n-th, at most so many."""
from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from animatediff.errors import SettingsError
from animatediff.media.timing import duration, rate

HALF = Fraction(1, 2)
TOLERANCE = Fraction(1, 100)  # seconds by which `end` may be beyond the source's, as people round it


@dataclass(frozen=True)
class Timeline:
    """The frames of a source. times: in seconds from the first frame, ascending. seconds: of the whole. A folder has
    pictures without times: `seconds` is 0, and `times` are their numbers. steady: frames per second, None where the
    frames last differently or have no times."""

    times: tuple[Fraction, ...]
    seconds: Fraction
    steady: Fraction | None = None

    @property
    def average(self) -> Fraction | None:
        """Frames per second on average; None without times."""
        return (len(self.times) / self.seconds).limit_denominator(1001) if self.seconds else None


@dataclass(frozen=True)
class Chosen:
    """indices: of the source's frames, in order; a frame may come several times. fps: frames per second that keep the
    source's pace, None without times. start, end: of the range in the source, in seconds."""

    timeline: Timeline
    indices: tuple[int, ...]
    fps: Fraction | None
    start: Fraction
    end: Fraction

    def cut(self, frames: int) -> Chosen:
        """The first so many; all for 0."""
        return replace(self, indices=self.indices[:frames]) if frames else self

    @property
    def begin(self) -> Fraction:
        """The time of the clip's beginning in the source: in a range without a target rate, of its first frame."""
        return max(self.start, self.timeline.times[self.indices[0]]) if self.timeline.seconds else Fraction(0)

    @property
    def told(self) -> str:
        """Such as "423 frames of 14.1 s → 212 at 15 fps"."""
        total, count = len(self.timeline.times), len(self.indices)
        if self.fps is None:
            return f"{total:,} pictures \N{RIGHTWARDS ARROW} {count:,}"
        return (f"{total:,} {'frame' if total == 1 else 'frames'} of {duration(float(self.timeline.seconds))} "
                f"\N{RIGHTWARDS ARROW} {count:,} at {float(self.fps):.5g} fps")


@dataclass(frozen=True)
class Selection:
    """start, end: in seconds from the first frame; an end of 0 is the source's. fps: a target rate, 0 for each frame
    as it is. every: 2 takes every second of these. most: takes the first so many, 0 for all."""

    start: float = 0
    end: float = 0
    fps: float = 0
    every: int = 1
    most: int = 0

    def of(self, source: Timeline) -> Chosen:
        """SettingsError for a range that is not in the source."""
        if not source.seconds:
            return self._of_pictures(source)
        start, end = self._range(source)
        if self.fps:
            pace = rate(self.fps)
            indices = resampled(source.times, start, end, pace)
        else:
            pace = source.steady or source.average
            indices = between(source.times, start, end)
            if not indices:
                raise SettingsError(f"no frame begins between {_seconds(start)} and {_seconds(end)}", where="video_end",
                                    remedy="Use a longer range, or set video_fps.")
        indices = indices[::self.every][:self.most or None]
        return Chosen(source, tuple(indices), pace and pace / self.every, start, end)

    def _of_pictures(self, source: Timeline) -> Chosen:
        for name, value in (("video_start", self.start), ("video_end", self.end), ("video_fps", self.fps)):
            if value:
                raise SettingsError("the source is pictures without times", where=name,
                                    remedy="Leave it out; video_every and video_max_frames work.")
        indices = range(len(source.times))[::self.every][:self.most or None]
        return Chosen(source, tuple(indices), None, Fraction(0), Fraction(0))

    def _range(self, source: Timeline) -> tuple[Fraction, Fraction]:
        start, end, whole = exact(self.start), exact(self.end), source.seconds
        if start >= whole:
            raise SettingsError(f"{_seconds(start)} is not before the source's end: it has {_seconds(whole)}",
                                where="video_start", remedy=f"Use less than {_number(whole)}.")
        if end > whole + TOLERANCE:
            raise SettingsError(f"{_seconds(end)} is behind the source's end: it has {_seconds(whole)}",
                                where="video_end", remedy=f"Use at most {_number(whole)}, or 0 for the end.")
        if end and end <= start:
            raise SettingsError(f"{_seconds(end)} is not after video_start, {_seconds(start)}", where="video_end",
                                remedy="Use a later time, or 0 for the source's end.")
        return start, min(end, whole) if end else whole


def exact(seconds: float) -> Fraction:
    """The number that people wrote: 0.1 is 1/10."""
    return Fraction(str(seconds))


def between(times: Sequence[Fraction], start: Fraction, end: Fraction) -> list[int]:
    """The frames that begin at or after `start` and before `end`. Ranges that adjoin have no frame in common."""
    return list(range(bisect_left(times, start), bisect_left(times, end)))


def resampled(times: Sequence[Fraction], start: Fraction, end: Fraction, fps: Fraction) -> list[int]:
    """The frame that is shown in the middle of each output frame, as ffmpeg's filter `fps` chooses it: rounding of a
    container's times drops and repeats none. At least one."""
    count = max(1, math.floor((end - start) * fps + HALF))
    return [max(0, bisect_left(times, start + (k + HALF) / fps) - 1) for k in range(count)]


def _seconds(value: Fraction) -> str:
    return f"{_number(value)} s"


def _number(value: Fraction) -> str:
    return f"{float(value):.3f}".rstrip("0").rstrip(".") or "0"
