"""Select frames of a source video: by time range, target rate, every n-th, and a maximum number."""
from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from animatediff.errors import SettingsError
from animatediff.media.timing import duration, rate

HALF = Fraction(1, 2)
MOST = 100_000  # largest number of frames in a clip
TOLERANCE = Fraction(1, 100)  # seconds by which `end` may exceed the source's end, since people round it


@dataclass(frozen=True)
class Timeline:
    """The times of a source's frames. The pictures of a folder have no times: `seconds` is 0."""

    times: tuple[Fraction, ...]  # seconds from the first frame, ascending; for a folder, the numbers of its pictures
    seconds: Fraction  # duration of the source
    steady: Fraction | None = None  # frames per second; None if the frame rate varies or there are no times

    def average_of(self, frames: Sequence[int]) -> Fraction | None:
        """Return the average frames per second of consecutive frames, None without times."""
        if not self.seconds or not frames:
            return None
        end = (*self.times[frames[-1] + 1:][:1], self.seconds)[0]
        return (len(frames) / (end - self.times[frames[0]])).limit_denominator(1001)

    @property
    def average(self) -> Fraction | None:
        """The average frames per second of the source, None without times."""
        return self.average_of(range(len(self.times)))


@dataclass(frozen=True)
class Chosen:
    """The chosen frames of a source."""

    timeline: Timeline  # of the source
    indices: tuple[int, ...]  # numbers of the frames, ascending; a number may repeat
    fps: Fraction | None  # frames per second at which they play as fast as in the source, None without times
    begin: Fraction  # time in the source at which the clip begins, in seconds

    def cut(self, frames: int) -> Chosen:
        """Return the first `frames` of them, or all with 0."""
        return replace(self, indices=self.indices[:frames]) if frames else self

    @property
    def description(self) -> str:
        """Text such as "423 frames of 14.1 s → 212 at 15 fps"."""
        total, count = len(self.timeline.times), len(self.indices)
        if self.fps is None:
            return f"{total:,} pictures \N{RIGHTWARDS ARROW} {count:,}"
        return (f"{total:,} {'frame' if total == 1 else 'frames'} of {duration(float(self.timeline.seconds))} "
                f"\N{RIGHTWARDS ARROW} {count:,} at {float(self.fps):.5g} fps")


@dataclass(frozen=True)
class Selection:
    """Which frames of a source to take."""

    start: float = 0  # seconds from the first frame
    end: float = 0  # 0: the source's end
    fps: float = 0  # target rate, 0: every frame
    every: int = 1  # 2 takes every second of these frames
    most: int = 0  # largest number of these frames, 0: all

    def of(self, source: Timeline) -> Chosen:
        """Return the chosen frames. Raises SettingsError for a range outside of the source."""
        if not source.seconds:
            return self._of_pictures(source)
        start, end = self._range(source)
        if self.fps:
            pace = rate(self.fps)
            indices = resampled(source.times, start, end, pace, self.most * self.every or MOST + 1)
            if len(indices) > MOST:
                raise SettingsError(f"a clip has at most {MOST:,} frames, and {_seconds(end - start)} of the source "
                                    f"have more at {float(pace):g} frames per second", where="video_fps",
                                    remedy="Use a lower rate, video_end or video_max_frames.")
        else:
            indices = between(source.times, start, end)
            pace = source.steady or source.average_of(indices)
            if not indices:
                raise SettingsError(f"no frame begins between {_seconds(start)} and {_seconds(end)}", where="video_end",
                                    remedy="Use a longer range, or set video_fps.")
        indices = indices[::self.every][:self.most or None]
        # With a target rate, the first frame is the one in the middle of the time for which the clip shows it.
        begin = start if self.fps else source.times[indices[0]]
        return Chosen(source, tuple(indices), pace and pace / self.every, begin)

    def _of_pictures(self, source: Timeline) -> Chosen:
        for name, value in (("video_start", self.start), ("video_end", self.end), ("video_fps", self.fps)):
            if value:
                raise SettingsError("the source is pictures without times", where=name,
                                    remedy="Leave it out; video_every and video_max_frames work.")
        indices = range(len(source.times))[::self.every][:self.most or None]
        return Chosen(source, tuple(indices), None, Fraction(0))

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
    """Return the decimal number as a fraction: 0.1 is 1/10."""
    return Fraction(str(seconds))


def between(times: Sequence[Fraction], start: Fraction, end: Fraction) -> list[int]:
    """Return the frames that begin at or after `start` and before `end`."""
    return list(range(bisect_left(times, start), bisect_left(times, end)))


def resampled(times: Sequence[Fraction], start: Fraction, end: Fraction, fps: Fraction, most: int) -> list[int]:
    """Return the frame that is shown in the middle of each output frame, like ffmpeg's filter `fps`.

    Rounded times of a container so drop and repeat no frame. There is at least one frame, and at most `most`.
    """
    count = min(max(1, math.floor((end - start) * fps + HALF)), most)
    return [max(0, bisect_left(times, start + (k + HALF) / fps) - 1) for k in range(count)]


def _seconds(value: Fraction) -> str:
    return f"{_number(value)} s"


def _number(value: Fraction) -> str:
    number = float(value)
    return f"{number:.3f}".rstrip("0").rstrip(".") if number < 1e9 else f"{number:g}"
