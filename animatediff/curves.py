"""Curves: values over the frames of a clip or over the sampler's steps.

    1.2                      constant
    1, 1.1, 0.9              one for each frame; the last value repeats
    0: 1, 8: 1.4, -1: 0.8    key frames with linear interpolation; -1 is the last frame
    0%: 1, 50%: 0            key frames in percent of the clip

Deforum's brackets, `0: (1.0)`, are accepted as well.
"""
from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

from animatediff.errors import quoted

_NUMBER = r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?"
NUMBER = re.compile(_NUMBER, re.ASCII | re.IGNORECASE)
KEY = re.compile(rf"({_NUMBER})\s*(?:(%)\s*)?:\s*(\(\s*)?({_NUMBER})(?(3)\s*\))", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True)
class Key:
    """A key frame of a curve."""

    place: float  # a frame's number (negative: from the end), or percent of the clip
    value: float
    percent: bool = False  # whether `place` is in percent

    def frame(self, count: int) -> float:
        """Return the position in a clip of `count` frames. It may lie between two frames."""
        if self.percent:
            return self.place / 100 * (count - 1)
        return self.place + count if self.place < 0 else self.place

    def __str__(self) -> str:
        return f"{self.place:g}{'%' if self.percent else ''}: {self.value:g}"


@dataclass(frozen=True)
class Curve:
    """A curve of numbers or of key frames. One of the two fields is empty."""

    numbers: tuple[float, ...] = ()  # one for each frame; the last one repeats
    keys: tuple[Key, ...] = ()

    @classmethod
    def read(cls, value: Any) -> Curve:
        """Return the curve for a text, a number, or a list of numbers.

        Raise ValueError if it is invalid. The message is the predicate of a sentence about the value.
        """
        if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
            if bad := next((part for part in value if not isinstance(part, (Real, str))), None):
                raise ValueError(f"holds {quoted(bad)}, which is neither a number nor a key frame")
            value = ", ".join(map(str, value))
        elif not isinstance(value, (Real, str)):
            raise ValueError("is neither a number nor text")
        parts = [part.strip() for part in str(value).strip().rstrip(",").split(",")]
        if all(map(NUMBER.fullmatch, parts)):
            return cls(numbers=tuple(map(float, parts)))
        keys = []
        for part in parts:
            match = KEY.fullmatch(part)
            if not match:
                raise ValueError(f"holds {quoted(part)}, which is neither a number nor a key frame")
            if not math.isfinite(float(match[1])):
                raise ValueError(f"holds {quoted(part)}, whose frame number is too large")
            keys.append(Key(float(match[1]), float(match[4]), bool(match[2])))
        return cls(keys=tuple(keys))

    @property
    def extremes(self) -> tuple[float, float]:
        """The smallest and the largest value."""
        values = self.numbers or [key.value for key in self.keys]
        return min(values), max(values)

    @property
    def constant(self) -> float | None:
        """The value of a constant curve, None for others."""
        low, high = self.extremes
        return low if low == high else None

    def values(self, count: int) -> list[float]:
        """Return a value for each of `count` frames or steps."""
        if self.numbers:
            return [self.numbers[min(i, len(self.numbers) - 1)] for i in range(count)]
        # If two key frames have the same position, the later one counts.
        at = dict(sorted(((key.frame(count), key.value) for key in self.keys), key=lambda pair: pair[0]))
        places, heights = list(at), list(at.values())
        return [_between(places, heights, i) for i in range(count)]

    def __str__(self) -> str:
        return ", ".join([f"{number:g}" for number in self.numbers] or map(str, self.keys))


def _between(places: list[float], heights: list[float], x: float) -> float:
    after = bisect_right(places, x)
    if after == 0 or after == len(places):
        return heights[max(after - 1, 0)]
    (a, b), (p, q) = heights[after - 1:after + 1], places[after - 1:after + 1]
    return a + (b - a) * (x - p) / (q - p)
