"""Times of the output frames between two frames of a clip. Times are exact, in seconds from the clip's beginning."""
from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

UNITS = (Fraction(1, 100), Fraction(1, 1000))  # time units of containers in seconds
JITTER = Fraction(1, 50)  # seconds by which a frame's stored time may be wrong, since GIFs count in hundredths


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
