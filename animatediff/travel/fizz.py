"""The batch prompt schedule of FizzNodes: `"0": "a cat", "max_f/2": "a (dog:`t/max_f`)"`.

Text before the first key frame goes in front of every prompt, text behind the last one behind it, with a blank between.
Key frames may be expressions of max_f, the number of frames. Between backticks stand expressions of t (the frame),
max_f (here the last frame) and pw_a … pw_d; their values take their place. What follows `--neg` in a text is what the
frame should not show. Semantics as in ComfyUI_FizzNodes' BatchFuncs.py.
"""
from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from animatediff.errors import SettingsError, quoted
from animatediff.travel.reading import Script, package, place, refuse
from animatediff.travel.schedule import Key

ENTRY = re.compile(r'"(?P<key>[^"\n]*)"\s*:\s*"(?P<text>(?:[^"\\]|\\.)*)"', re.DOTALL)
FRAME = re.compile(r"[\d\s.+\-*/%()]*(?:max_f[\d\s.+\-*/%()]*)*")
BETWEEN = re.compile(r"[\s,]*")
EXPRESSION = re.compile(r"`([^`]*)`")
NEGATIVE = re.compile(r"\s*--neg\b\s*")
NAMES = ("t", "max_f", "pw_a", "pw_b", "pw_c", "pw_d")
FUNCTIONS = {name: getattr(math, name) for name in (
    "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "exp", "log", "log10", "sqrt", "floor", "ceil",
)} | {"abs": abs, "min": min, "max": max}  # fmt: skip


def is_fizz(prompt: str) -> bool:
    """Whether there is a key frame in it."""
    return any(_is_key(entry) for entry in ENTRY.finditer(prompt))


def read(prompt: str, frames: int, where: str) -> Script:
    """SettingsError names line and column."""
    entries = [entry for entry in ENTRY.finditer(prompt) if _is_key(entry)]
    keys: dict[int, Key] = {}
    for entry, before in zip(entries, [None, *entries]):
        if before and not BETWEEN.fullmatch(prompt[before.end():entry.start()]):
            rest = prompt[before.end():entry.start()].strip(" ,\n\t")
            at = place(prompt, prompt.index(rest, before.end()))
            raise refuse(f"{quoted(rest)} stands between two key frames", where, *at,
                         'Write "FRAME": "text", "FRAME": "text", ….')
        line, column = place(prompt, entry.start())
        frame = _frame(entry["key"], frames, where, line, column)
        if frame in keys:
            raise refuse(f"frame {frame} has a prompt already, in line {keys[frame].line}", where, line, column,
                         "Remove one of the two.")
        keys[frame] = Key(frame, entry["text"].replace('\\"', '"').strip(), "", line + 1, column + 1)
    head, tail = prompt[:entries[0].start()], prompt[entries[-1].end():]
    return Script("fizz", head.strip(), tuple(keys[frame] for frame in sorted(keys)), tail.strip(" ,\n\t"))


def without_negatives(script: Script) -> tuple[Script, Script]:
    """The script, and that of what follows `--neg` in its parts."""
    def halves(text: str) -> tuple[str, str]:
        positive, _, negative = NEGATIVE.sub("\0", text, count=1).partition("\0")
        return positive, negative

    (head, no_head), (tail, no_tail) = halves(script.head), halves(script.tail)
    texts = [halves(key.text) for key in script.keys]
    keys, no_keys = (tuple(replace(key, text=text[i]) for key, text in zip(script.keys, texts)) for i in (0, 1))
    return Script("fizz", head, keys, tail), Script("fizz", no_head, no_keys, no_tail)


def write(keys: Sequence[Key]) -> str:
    """The text of which `read` makes the same key frames."""
    return ",\n".join('"{}": "{}"'.format(key.frame, key.text.replace('"', '\\"')) for key in keys)


def at_frame(text: str, frame: int, frames: int, weights: Mapping[str, str], where: str) -> str:
    """The text with its expressions' values."""
    def value(found: re.Match[str]) -> str:
        values: dict[str, float] = {"t": frame, "max_f": frames - 1}
        for name in NAMES[2:]:
            values[name] = evaluate(str(weights.get(name, 0)), values, where)
        return _number(evaluate(found[1], values, where))

    return EXPRESSION.sub(value, text)


def evaluate(expression: str, values: Mapping[str, float], where: str) -> float:
    """A number. SettingsError if the expression is none of numbers, + - * / % **, the known names and functions."""
    library = package("simpleeval")
    try:
        result = library.SimpleEval(functions=FUNCTIONS, names=dict(values)).eval(expression.strip())
        if isinstance(result, bool) or not isinstance(result, (int, float)) or not math.isfinite(result):
            raise ValueError(f"its value is {quoted(result)}")
        return result
    except (library.InvalidExpression, SyntaxError, ArithmeticError, ValueError, TypeError) as error:
        raise SettingsError(
            f"{quoted(expression)} cannot be computed: {error}", where=where,
            remedy=f"Use numbers, + - * / % **, {', '.join(values)} and {', '.join(FUNCTIONS)}.") from error


def weights(text: str) -> dict[str, str]:
    """The expressions in `pw_a = 0.5; pw_b = t/max_f`, by name."""
    found = {}
    for part in filter(str.strip, text.split(";")):
        name, equals, expression = (piece.strip() for piece in part.partition("="))
        if name not in NAMES[2:] or not equals or not expression:
            raise SettingsError(f"{quoted(part.strip())} is no weight", where="prompt_weights",
                                remedy="Write NAME = EXPRESSION with ; between them; "
                                f"names are {', '.join(NAMES[2:])}.")
        found[name] = expression
    return found


def _is_key(entry: re.Match[str]) -> bool:
    return bool(entry["key"].strip() and FRAME.fullmatch(entry["key"]))


def _frame(key: str, frames: int, where: str, line: int, column: int) -> int:
    frame = math.floor(evaluate(key, {"max_f": frames}, f"{where}, line {line + 1}, column {column + 1}"))
    if frame < 0:
        raise refuse(f"key frame {key} is {frame}", where, line, column, "Frames count from 0.")
    return frame


def _number(value: float) -> str:
    """At most four decimals, without zeros at the end."""
    text = f"{value:.4f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text
