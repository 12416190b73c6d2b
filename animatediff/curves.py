"""Curves: values over the frames of a clip or over the sampler's steps.

    1.2                      constant
    1, 1.1, 0.9              one for each frame; the last value repeats
    0: 1, 8: 1.4, -1: 0.8    key frames with linear interpolation; -1 is the last frame
    0%: 1, 50%: 0            key frames in percent of the clip
    0.5 + audio(bass)        an expression (see travel.expressions) of the frame t, the last frame max_f, and the sound

Deforum's brackets, `0: (1.0)`, are accepted as well. An expression may take the place of any value.
"""
from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

from animatediff.errors import SettingsError, quoted
from animatediff.travel.expressions import Expression, Follow, Levels

_NUMBER = r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?"
NUMBER = re.compile(_NUMBER, re.ASCII | re.IGNORECASE)
KEY = re.compile(rf"({_NUMBER})\s*(?:(%)\s*)?:\s*(\(\s*)?({_NUMBER})(?(3)\s*\))", re.ASCII | re.IGNORECASE)
PLACE = re.compile(rf"({_NUMBER})\s*(?:(%)\s*)?:(?P<value>.*)", re.ASCII | re.IGNORECASE | re.DOTALL)
NAMES = ("t", "max_f")
MOST = 1000  # expressions of a curve
Value = float | Expression


@dataclass(frozen=True)
class Key:
    """A key frame of a curve."""

    place: float  # a frame's number (negative: from the end), or percent of the clip
    value: Value
    percent: bool = False  # whether `place` is in percent

    def frame(self, count: int) -> float:
        """Return the position in a clip of `count` frames. It may lie between two frames."""
        if self.percent:
            return self.place / 100 * (count - 1)
        return self.place + count if self.place < 0 else self.place

    def __str__(self) -> str:
        return f"{self.place:g}{'%' if self.percent else ''}: {_written(self.value)}"


@dataclass(frozen=True)
class Curve:
    """A curve of numbers or of key frames. One of the two fields is empty."""

    numbers: tuple[Value, ...] = ()  # one for each frame; the last one repeats
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
        parts = _parts(str(value).strip().rstrip(","))
        if all(map(NUMBER.fullmatch, parts)):
            return cls(numbers=tuple(map(float, parts)))
        read = _Reader()
        if not any(":" in part for part in parts):
            return cls(numbers=tuple(map(read.value, parts)))
        return cls(keys=tuple(map(read.key, parts)))

    @property
    def written(self) -> list[Value]:
        """The values, whatever they are for."""
        return list(self.numbers) or [key.value for key in self.keys]

    @property
    def expressions(self) -> list[Expression]:
        return [value for value in self.written if isinstance(value, Expression)]

    @property
    def follows(self) -> tuple[Follow, ...]:
        """What of a sound it needs."""
        return tuple(dict.fromkeys(each for expression in self.expressions for each in expression.follows))

    @property
    def extremes(self) -> tuple[float, float]:
        """The smallest and the largest number; 0 if all values are expressions."""
        values = [value for value in self.written if not isinstance(value, Expression)] or [0.0]
        return min(values), max(values)

    @property
    def constant(self) -> float | None:
        """The value of a constant curve, None for others."""
        low, high = self.extremes
        return low if low == high and not self.expressions else None

    def values(self, count: int, levels: Levels | None = None) -> list[float]:
        """One value for each of `count` frames (or steps). levels: of the clip's sound. SettingsError for an expression
        that cannot be computed."""
        def at(value: Value, frame: int) -> float:
            if not isinstance(value, Expression):
                return value
            return value.at(frame, {"t": frame, "max_f": count - 1}, levels)

        if self.numbers:
            return [at(self.numbers[min(i, len(self.numbers) - 1)], i) for i in range(count)]
        # If two key frames have the same position, the later one counts.
        keys = dict(sorted(((key.frame(count), key.value) for key in self.keys), key=lambda pair: pair[0]))
        places, heights = list(keys), list(keys.values())
        return [_between(places, heights, i, at) for i in range(count)]

    def computed(self, count: int, levels: Levels | None = None) -> Curve:
        """Return this curve with its expressions evaluated for `count` frames."""
        return Curve(numbers=tuple(self.values(count, levels))) if self.expressions else self

    def __str__(self) -> str:
        return ", ".join(list(map(_written, self.numbers)) or map(str, self.keys))


class _Reader:
    """Of the parts of one curve."""

    def __init__(self) -> None:
        self.count = 0

    def key(self, part: str) -> Key:
        match = KEY.fullmatch(part) or PLACE.fullmatch(part)
        if not match:
            raise _unknown(part)
        if not math.isfinite(float(match[1])):
            raise ValueError(f"holds {quoted(part)}, whose frame number is too large")
        value = match.groupdict().get("value")
        return Key(float(match[1]), float(match[4]) if value is None else self.value(value.strip()), bool(match[2]))

    def value(self, part: str) -> Value:
        if NUMBER.fullmatch(part):
            return float(part)
        if "(" not in part and not any(sign in part for sign in "*/+"):
            raise _unknown(part)
        self.count += 1
        if self.count > MOST:
            raise ValueError(f"has more than {MOST:,} expressions")
        try:
            return Expression.read(part, NAMES, "")
        except SettingsError as error:
            raise ValueError(f"holds an expression: {error.what}") from None


def _unknown(part: str) -> ValueError:
    return ValueError(f"holds {quoted(part)}, which is neither a number nor a key frame")


def _parts(text: str) -> list[str]:
    """What stands between the commas that are in no brackets."""
    if "(" not in text:
        return [part.strip() for part in text.split(",")]
    parts, depth, begin = [], 0, 0
    for found in re.finditer(r"[(),]", text):
        depth = max(0, depth + {"(": 1, ")": -1}.get(found[0], 0))
        if found[0] == "," and not depth:
            parts.append(text[begin:found.start()].strip())
            begin = found.end()
    return [*parts, text[begin:].strip()]


def _written(value: Value) -> str:
    return value.text if isinstance(value, Expression) else f"{value:g}"


def _between(places: list[float], heights: list[Value], frame: int, at: Callable[[Value, int], float]) -> float:
    after = bisect_right(places, frame)
    if after == 0 or after == len(places):
        return at(heights[max(after - 1, 0)], frame)
    (a, b), (p, q) = heights[after - 1:after + 1], places[after - 1:after + 1]
    first, second = at(a, frame), at(b, frame)
    return first + (second - first) * (frame - p) / (q - p)
