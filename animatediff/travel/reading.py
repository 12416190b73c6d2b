"""What the readers of the syntaxes share."""
from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType

from animatediff.errors import SettingsError
from animatediff.travel.schedule import Key

MARKS = re.compile(r"(?:<[^<>]*>[\s,]*)+")  # extra networks


@dataclass(frozen=True)
class Script:
    """A prompt as it was read. A frame's prompt is head, the text of its key frames, and tail. `syntax`: "plain",
    "native" or "fizz"."""

    syntax: str
    head: str
    keys: tuple[Key, ...]
    tail: str


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
