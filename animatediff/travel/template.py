"""Texts of key frames as templates: in each frame, expressions are evaluated and cyclic options chosen."""
from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from animatediff.travel import cyclic
from animatediff.travel.expressions import Expression, Levels
from animatediff.travel.schedule import Text

EXPRESSION = re.compile(r"`([^`]*)`")
WEIGHTS = ("pw_a", "pw_b", "pw_c", "pw_d")
NAMES = ("t", "max_f", *WEIGHTS)


@dataclass(frozen=True)
class Reader:
    """Parser of a clip's key frame texts."""

    frames: int  # number of frames in the clip
    weights: Mapping[str, str]  # expressions for the names in WEIGHTS
    expressions: bool = False  # whether text between backticks is an expression
    levels: Levels | None = None  # of the clip's sound

    def __call__(self, text: str, where: str) -> Text:
        """Return the text if all frames have the same, otherwise a function from a frame's number to its text.

        Raise SettingsError if the text cannot be parsed.
        """
        options = cyclic.read(text, self.frames, where) if cyclic.is_cyclic(text) else None
        if not (self.expressions and EXPRESSION.search(text)):
            return text if options is None else options
        if options is None:
            return self._computed(text, where)
        known: dict[str, Text] = {}

        def at(frame: int) -> str:
            chosen = options(frame)
            if chosen not in known:
                known[chosen] = self._computed(chosen, where)
            found = known[chosen]
            return found if isinstance(found, str) else found(frame)

        return at

    def _computed(self, text: str, where: str) -> Text:
        """Return a function from a frame's number to the text with the values of its expressions."""
        parts = EXPRESSION.split(text)  # plain text at even indices, expressions at odd ones
        expressions = [Expression.read(part, NAMES, where) for part in parts[1::2]]
        weights = [(name, Expression.read(self.weights.get(name, "0"), NAMES[:i], "prompt_weights"))
                   for i, name in enumerate(NAMES) if name in WEIGHTS]

        def at(frame: int) -> str:
            values: dict[str, float] = {"t": frame, "max_f": self.frames - 1}
            for name, weight in weights:
                values[name] = weight.at(frame, values, self.levels)
            parts[1::2] = [_number(expression.at(frame, values, self.levels)) for expression in expressions]
            return "".join(parts)

        return at


def _number(value: float) -> str:
    """Return the number with at most four decimals, without trailing zeros."""
    text = f"{value:.4f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text
