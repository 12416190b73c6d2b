"""Types and helpers that the parsers of all syntaxes share."""
from __future__ import annotations

import math
import re
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import NamedTuple

from animatediff.errors import SettingsError
from animatediff.travel.schedule import Key

BAD = re.compile(r"[\0\ud800-\udfff]")  # NUL and surrogates, which cannot be encoded in a response or a file
MARKS = re.compile(r"(?:<[^<>]*>[\s,]*)+")  # tags of extra networks
# A key frame's number: counted from the start, from the end, or as a share of the clip.
FRAME = r"(?:\d{1,6}|-\d{1,6}|\d{1,6}(?:\.\d{1,6})?\s{0,3}%)"


class Loose(NamedTuple):
    """A line that belongs to no key frame."""

    line: int  # from 1
    text: str
    behind: bool = False  # whether it is after all key frames


@dataclass(frozen=True)
class Script:
    """A parsed prompt. A frame's prompt is the head, the text of its key frames, and the tail."""

    syntax: str  # "plain", "native" or "fizz"
    head: str
    keys: tuple[Key, ...]  # in ascending order
    tail: str
    loose: tuple[Loose, ...] = ()  # lines that belong to no key frame
    notes: tuple[str, ...] = ()  # notes for the user


def joined(*parts: str) -> str:
    """Join parts of a prompt with ", ". Empty parts are left out, and commas at the ends of parts do not double.

    A part of only tags such as `<lora:…>` is joined with a blank, because the host removes the tags.
    """
    text, marks = "", False
    for part in filter(None, (part.strip().strip(",").strip() for part in parts)):
        only = bool(MARKS.fullmatch(part))
        text += ("" if not text else " " if marks or only else ", ") + part
        marks = only
    return text


def spaced(*parts: str) -> str:
    """Join parts of a prompt with blanks. Empty parts are left out."""
    return " ".join(filter(None, (part.strip() for part in parts)))


def whole(script: Script, key: Key) -> str:
    """Return a key frame's whole prompt: head, text and tail."""
    if script.syntax == "plain":
        return key.text
    return (spaced if script.syntax == "fizz" else joined)(script.head, key.text, script.tail)


def frame_of(written: str, frames: int, where: str, line: int, column: int) -> int:
    """Return the frame for a text that matches FRAME: -1 is the last frame, 50% the frame nearest to the middle."""
    if written.endswith("%"):
        return math.floor(float(written[:-1]) / 100 * (frames - 1) + 0.5)
    frame = int(written)
    if frame < -frames:
        raise refuse(f"key frame {written} is before the first of {frames} frames", where, line, column,
                     f"Use {-frames} to -1 from the end, or 0 and more from the start.")
    return frame + frames if frame < 0 else frame


def refuse(what: str, where: str, line: int, column: int, remedy: str) -> SettingsError:
    """Return an error with a place. `line` and `column` count from 0; the message counts from 1."""
    return SettingsError(what, where=f"{where}, line {line + 1}, column {column + 1}", remedy=remedy)


def package(name: str, module: str = "") -> ModuleType:
    """Import a package that only some prompts need. Raise SettingsError if it is missing."""
    try:
        return import_module(module or name)
    except ImportError as error:
        raise SettingsError(f"this prompt needs the package {name}, which cannot be imported ({error})", where="prompt",
                            remedy='Install it: pip install -e ".[travel]", in a WebUI by restarting it') from error


def place(text: str, offset: int) -> tuple[int, int]:
    """Return line and column of an offset, both from 0."""
    before = text[:offset]
    return before.count("\n"), offset - (before.rfind("\n") + 1)
