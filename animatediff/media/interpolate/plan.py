"""Times of the output frames between two frames of a clip. Times are exact, in seconds from the clip's beginning."""
from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

UNITS = (Fraction(1, 100), Fraction(1, 1000))  # time units of containers in seconds
JITTER = Fraction(1, 50)  # seconds by which a frame's stored time may be wrong, since GIFs count in hundredths
NEAR = 1 / 8  # of the time between two frames of the clip; the motion in it is small


def due(start: Fraction, end: Fraction, rate: Fraction) -> list[Fraction]:
    """Return the output frames at or after `start` and before `end`, as shares of the interval: 0 is at `start`.

    rate: output frames per second.
    """
    first, behind = math.ceil(start * rate), math.ceil(end * rate)
    return [(k / rate - start) / (end - start) for k in range(first, behind)]


def count(seconds: Fraction, rate: Fraction) -> int:
    """Return the number of output frames of a clip with this duration."""
    return len(due(Fraction(0), seconds, rate))


def steady_rate(seconds: Sequence[Fraction]) -> Fraction | None:
    """Return the constant frames per second of a clip, or None if its frames have different durations.

    seconds: durations of the frames. Differences from the container's rounding are ignored, and so is the last frame's
    duration if it does not fit, since it is often made up.
    """
    return _steady(seconds) or _steady(seconds[:-1])


def _steady(seconds: Sequence[Fraction]) -> Fraction | None:
    total, at = sum(seconds, Fraction(0)), Fraction(0)
    if not total:
        return None
    mean = total / len(seconds)
    for index, each in enumerate(seconds):
        if abs(at - index * mean) > min(JITTER, mean / 3):
            return None
        at += each
    nearest = max(1, round(1 / mean))
    rounding = next((unit for unit in UNITS if all(not each % unit for each in seconds)), Fraction(0))
    is_whole = abs(Fraction(len(seconds), nearest) - total) <= rounding
    return Fraction(nearest) if is_whole else (1 / mean).limit_denominator(1001)


@dataclass(frozen=True)
class Step:
    """A new frame at time `at`, made of the frames at the times `left` and `right`."""

    left: float
    right: float
    at: float

    @property
    def share(self) -> float:
        """The time between the two frames, 0…1."""
        return (self.at - self.left) / (self.right - self.left)


def halvings(times: Iterable[float], left: float = 0.0, right: float = 1.0) -> list[Step]:
    """Return the steps that make new frames at these times, for methods that are best in the middle of two frames.

    Each step makes the frame that is nearest to the middle of two known ones, so factors of 2, 4 and 8 are halvings
    alone. If that frame is far from the middle, a further frame is made there first. The times of all other steps are
    from 1/4 to 3/4 between two frames, unless these are NEAR.
    """
    inside = [time for time in times if left < time < right]
    if not inside:
        return []
    middle, length = (left + right) / 2, right - left
    at = min(inside, key=lambda time: abs(time - middle))
    if abs(at - middle) > length / 4 and length > NEAR:
        at = middle
    return [Step(left, right, at), *halvings(inside, left, at), *halvings(inside, at, right)]
