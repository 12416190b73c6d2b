"""The batch prompt schedule of FizzNodes: `"0": "a cat", "max_f/2": "a (dog:`t/max_f`)"`.

* Text before the first key frame is put in front of every prompt, text after the last one behind it, with a blank.
* A key frame's number may be an expression of max_f, the number of frames.
* Texts are JSON strings: `\\\\(` is `\\(`. An escape that JSON does not have stays as it is.
* An expression between backticks is replaced by its value. It may use t (the frame), max_f (here the number of the
  last frame) and pw_a … pw_d.
* Text after `--neg` belongs to the negative prompt.
* Quotes may be typographic or single. A number's quotes may be left out.

The semantics are those of BatchFuncs.py in ComfyUI_FizzNodes.
"""
from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from animatediff.errors import SettingsError, quoted
from animatediff.travel.characters import DOUBLE, SINGLE, plain
from animatediff.travel.expressions import Expression
from animatediff.travel.reading import BAD, FRAME, Loose, Script, frame_of, refuse
from animatediff.travel.schedule import Key
from animatediff.travel.template import WEIGHTS

# These patterns are matched against `plain(prompt)`.
_OPENING = re.compile(rf"""(?:(?P<quote>["'])(?P<key>[^"'\n]{{1,200}})(?P=quote)
                            | (?P<bare>(?<!\S){FRAME} | (?<=[,{{;]){FRAME})) \s*:\s*["']""", re.VERBOSE)
_COMPUTED = re.compile(r"[\d\s.+\-*/%()]*(?:max_f[\d\s.+\-*/%()]*)*")
_BETWEEN = re.compile(r"[\s,;]*")
_NEGATIVE = re.compile(r"--neg\b")
_NO_QUOTES = re.compile(rf"""["']{FRAME}["']\s*:""")
_SEEMS_KEY = re.compile(r"""["']\s*:""")
_APOSTROPHE = r"(?![^\S\n]*(?:[,;}\]\n]|\Z))"  # a single quote before this is an apostrophe and closes no text


def _text(double: str, single: str) -> dict[str, re.Pattern[str]]:
    """Return the patterns for the rest of a string, up to its closing quote, by the quote that opened it."""
    return {'"': re.compile(rf"((?:[^{double}\\]|\\.)*)[{double}]", re.DOTALL),
            "'": re.compile(rf"((?:[^{single}\\]|\\.|[{single}]{_APOSTROPHE})*)[{single}]", re.DOTALL)}


_TEXT, _OF_EDITORS = _text('"', "'"), _text(DOUBLE, SINGLE)
_ESCAPE = re.compile(r"""(?:\\u[0-9a-fA-F]{4})+|\\["\\/bfnrt']""")
HOW = 'Write "FRAME": "text", "FRAME": "text", ….'


class Entry(NamedTuple):
    """A key frame as it stands in the prompt."""

    key: str  # its number as written
    text: str | None  # None if the text's quote is never closed
    start: int  # offset of the key frame
    opened: int  # offset of the text's opening quote
    end: int  # offset after the closing quote
    bare: bool  # whether the number has no quotes


def is_fizz(prompt: str) -> bool:
    """Return whether the prompt has key frames of this syntax.

    If all numbers are without quotes, it is the native syntax unless their lines contain only key frames with quoted
    texts.
    """
    found = list(entries(prompt))
    if any(not entry.bare for entry in found):
        return True
    return bool(found) and all(entry.text is not None for entry in found) and \
        not _remains(prompt, found).strip(" \t\r\n,;")


def read(prompt: str, frames: int, where: str) -> Script:
    """Parse the prompt. Raise SettingsError with line and column."""
    found, place = list(entries(prompt)), _Places(prompt)
    keys: dict[int, Key] = {}
    for entry, before in zip(found, [None, *found]):
        line, column = place(entry.start)
        if before:
            _refuse_between(prompt, before, entry.start, place, where)
        if entry.text is None:
            raise refuse("the quote that opens here is never closed", where, *place(entry.opened), HOW)
        frame = _frame(entry.key, frames, where, line, column)
        if frame in keys:
            raise refuse(f"frame {frame} has a prompt already, in line {keys[frame].line}", where, line, column,
                         "Remove one of the two.")
        if BAD.search(entry.text):
            raise refuse("this text contains an invalid character (NUL, or half of a pair)", where,
                         *place(entry.opened), "Remove its escape, \\u….")
        keys[frame] = Key(frame, entry.text.strip(), "", line + 1, column + 1)
    head, tail = prompt[:found[0].start], prompt[found[-1].end:]
    if bare := _NO_QUOTES.search(plain(head)):
        raise refuse("the text of this key frame has no quotes", where, *place(bare.start()), HOW)
    if _SEEMS_KEY.search(plain(tail)) or plain(tail).partition("\n")[0].count('"') % 2:
        raise _missing_quote(place(found[-1].opened), where)
    loose = [Loose(number, line) for number, line in enumerate(head.splitlines(), 1)]
    loose += [Loose(place(found[-1].end)[0] + number, line, behind=True)
              for number, line in enumerate(tail.splitlines(), 1)]
    ordered = tuple(keys[frame] for frame in sorted(keys))
    head, tail = head.strip(), tail.strip(" ,;\n\t")
    return Script("fizz", "" if head == "{" else head, ordered, "" if tail == "}" else tail, tuple(loose))


def entries(prompt: str) -> Iterator[Entry]:
    """Yield the key frames in the order of the text."""
    alike, at = plain(prompt), 0
    while opening := _OPENING.search(alike, at):
        key = (opening["key"] or opening["bare"]).strip()
        if not key or not (re.fullmatch(FRAME, key) or _COMPUTED.fullmatch(key)):
            at = opening.start() + 1
            continue
        opened = opening.end() - 1
        found = (_TEXT if prompt[opened] in _TEXT else _OF_EDITORS)[alike[opened]].match(prompt, opening.end())
        at = found.end() if found else len(prompt)
        yield Entry(key, unescaped(found[1]) if found else None, opening.start(), opened, at, bool(opening["bare"]))


def unescaped(text: str) -> str:
    """Return the text of a JSON string. A backslash that begins no JSON escape stays, with what follows it."""
    return _ESCAPE.sub(lambda found: "'" if found[0] == r"\'" else json.loads(f'"{found[0]}"'), text)


def without_negatives(script: Script) -> tuple[Script, Script]:
    """Return the script without its `--neg` parts, and a script of these parts alone."""
    def halves(text: str) -> tuple[str, str]:
        positive, *negative = _NEGATIVE.split(text, maxsplit=1)
        return (positive.rstrip(), negative[0].lstrip()) if negative else (text, "")

    (head, no_head), (tail, no_tail) = halves(script.head), halves(script.tail)
    texts = [halves(key.text) for key in script.keys]
    keys, no_keys = (tuple(replace(key, text=text[i]) for key, text in zip(script.keys, texts)) for i in (0, 1))
    return replace(script, head=head, keys=keys, tail=tail), Script("fizz", no_head, no_keys, no_tail)


def has_negative(text: str) -> bool:
    return bool(_NEGATIVE.search(text))


def write(keys: Sequence[Key]) -> str:
    """Return the text that `read` parses into the same key frames: a JSON object without its braces."""
    return ",\n".join(f'"{key.frame}": {json.dumps(key.text, ensure_ascii=False)}' for key in keys)


def weights(text: str) -> dict[str, str]:
    """Return the expressions in a text such as `pw_a = 0.5; pw_b = t/max_f`, by name."""
    found = {}
    for part in filter(str.strip, text.split(";")):
        name, equals, expression = (piece.strip() for piece in part.partition("="))
        if name not in WEIGHTS or not equals or not expression:
            raise SettingsError(f"{quoted(part.strip())} is not a weight", where="prompt_weights",
                                remedy="Write NAME = EXPRESSION with ; between them; "
                                f"names are {', '.join(WEIGHTS)}.")
        found[name] = expression
    return found


class _Places:
    """Line and column, counted from 0, of an offset. Fast for offsets in ascending order."""

    def __init__(self, text: str):
        self.text, self.line, self.begin, self.at = text, 0, 0, 0

    def __call__(self, offset: int) -> tuple[int, int]:
        if offset < self.at:
            self.line = self.begin = self.at = 0
        self.line += self.text.count("\n", self.at, offset)
        self.begin = max(self.begin, self.text.rfind("\n", self.at, offset) + 1)
        self.at = offset
        return self.line, offset - self.begin


def _refuse_between(prompt: str, before: Entry, end: int, place: _Places, where: str) -> None:
    rest = prompt[before.end:end]
    if _BETWEEN.fullmatch(plain(rest)):
        return
    if set(plain(rest)) & set("\"'"):
        raise _missing_quote(place(before.opened), where)
    skipped = len(rest) - len(rest.lstrip(" ,\n\t"))
    raise refuse(f"{quoted(rest.strip(' ,' + chr(10) + chr(9)))} is between two key frames", where,
                 *place(before.end + skipped), HOW)


def _missing_quote(place: tuple[int, int], where: str) -> SettingsError:
    return refuse("after this text there are quotes that belong to no key frame; one may be missing", where, *place,
                  HOW)


def _frame(key: str, frames: int, where: str, line: int, column: int) -> int:
    if key.endswith("%"):
        return frame_of(key, frames, where, line, column)
    place = f"{where}, line {line + 1}, column {column + 1}"
    frame = math.floor(Expression.read(key, ("max_f",), place)({"max_f": frames}))
    if frame < 0:
        raise refuse(f"key frame {key} is {frame}", where, line, column,
                     'Frames count from 0; "max_f-1" is the last one.')
    return frame


def _remains(prompt: str, found: Sequence[Entry]) -> str:
    """Return the text around the entries in their own lines, in plain characters."""
    ends = [0, *(entry.end for entry in found)]
    starts = [*(entry.start for entry in found), len(prompt)]
    gaps = [prompt[end:start] for end, start in zip(ends, starts)]
    gaps[0] = gaps[0][gaps[0].rfind("\n") + 1:]
    gaps[-1] = gaps[-1].partition("\n")[0]
    return plain("".join(gaps))
