"""What the readers of the syntaxes share."""
from __future__ import annotations

import math
import re
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import NamedTuple

from animatediff.errors import SettingsError
from animatediff.travel.schedule import Key

BAD = re.compile(r"[\0\ud800-\udfff]")  # no characters, which no answer and no file could carry
MARKS = re.compile(r"(?:<[^<>]*>[\s,]*)+")  # extra networks
# A key frame as it is written: from the start, from the end, or as a share of the clip.
FRAME = r"(?:\d{1,6}|-\d{1,6}|\d{1,6}(?:\.\d{1,6})?\s{0,3}%)"


class Loose(NamedTuple):
    """A line that belongs to no key frame. behind: all of them. line: from 1."""

    line: int
    text: str
    behind: bool = False


@dataclass(frozen=True)
class Script:
    """A prompt as it was read. A frame's prompt is head, the text of its key frames, and tail. `syntax`: "plain",
    "native" or "fizz". notes: what a user may not expect."""

    syntax: str
    head: str
    keys: tuple[Key, ...]
    tail: str
    loose: tuple[Loose, ...] = ()
    notes: tuple[str, ...] = ()


def joined(*parts: str) -> str:
    """Parts of a prompt with ", " between them, or a blank beside one that is only `<lora:…>` and its like, which the
    host takes out. Commas at their ends do not double."""
    text, marks = "", False
    for part in filter(None, (part.strip().strip(",").strip() for part in parts)):
        only = bool(MARKS.fullmatch(part))
        text += ("" if not text else " " if marks or only else ", ") + part
        marks = only
    return text


def spaced(*parts: str) -> str:
    """Parts of a prompt with blanks between them."""
    return " ".join(filter(None, (part.strip() for part in parts)))


def whole(script: Script, key: Key) -> str:
    """The prompt of a key frame with what stands around all of them."""
    if script.syntax == "plain":
        return key.text
    return (spaced if script.syntax == "fizz" else joined)(script.head, key.text, script.tail)


def frame_of(written: str, frames: int, where: str, line: int, column: int) -> int:
    """The number of a key frame that matches FRAME: -1 is the last one, and 50% the nearest to the clip's middle."""
    if written.endswith("%"):
        return math.floor(float(written[:-1]) / 100 * (frames - 1) + 0.5)
    frame = int(written)
    if frame < -frames:
        raise refuse(f"key frame {written} is before the first of {frames} frames", where, line, column,
                     f"Use {-frames} to -1 from the end, or 0 and more from the start.")
    return frame + frames if frame < 0 else frame


def refuse(what: str, where: str, line: int, column: int, remedy: str) -> SettingsError:
    """`line` and `column` count from 0 here and from 1 in the message."""
    return SettingsError(what, where=f"{where}, line {line + 1}, column {column + 1}", remedy=remedy)


def package(name: str, module: str = "") -> ModuleType:
    """A package that only some prompts need; SettingsError where it is missing."""
    try:
        return import_module(module or name)
    except ImportError as error:
        raise SettingsError(f"this prompt needs the package {name}, which cannot be imported ({error})", where="prompt",
                            remedy='Install it: pip install -e ".[travel]", in a WebUI by restarting it') from error


def place(text: str, offset: int) -> tuple[int, int]:
    """Line and column, from 0, of a character."""
    before = text[:offset]
    return before.count("\n"), offset - (before.rfind("\n") + 1)
