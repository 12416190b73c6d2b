"""Schedules in JSON: `{"0": "a", "8": "b"}`, and the files of animatediff-cli-prompt-travel and Deforum."""
from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from animatediff.errors import SettingsError, quoted
from animatediff.travel import fizz
from animatediff.travel.characters import plain
from animatediff.travel.reading import Script, refuse


class _Kind(NamedTuple):
    """The field names of a program's JSON files."""

    keys: str  # field of the key frames
    head: str  # field of the text in front of every prompt
    tail: str  # field of the text behind every prompt
    syntax: str  # how head, text and tail are joined: "native" or "fizz"


_KINDS = (_Kind("prompt_map", "head_prompt", "tail_prompt", "native"),
          _Kind("prompts", "animation_prompts_positive", "", "fizz"),
          _Kind("animation_prompts", "animation_prompts_positive", "", "fizz"))
_NAMED = re.compile("|".join(f'"{kind.keys}"' for kind in _KINDS))
# Strings (group 1), and two things that these files have but JSON forbids: comments, and a comma after the last entry.
_COMMENT = re.compile(r'("(?:[^"\\]|\\.)*")|#[^\n]*|//[^\n]*|,(?=\s*[}\]])')


def is_json(prompt: str) -> bool:
    inside = plain(prompt).strip()
    return inside[:1] == "{" and inside[-1:] == "}" and bool(_NAMED.search(inside) or fizz.is_fizz(prompt))


def read(prompt: str, frames: int, where: str) -> Script:
    """Parse the prompt. Raise SettingsError with line and column."""
    if not _NAMED.search(plain(prompt)):
        start, end = prompt.index(prompt.strip()[0]), prompt.rindex(prompt.strip()[-1])
        return fizz.read(f"{prompt[:start]} {prompt[start + 1:end]} ", frames, where)
    text = _COMMENT.sub(lambda found: found[1] or " " * len(found[0]), prompt if '"' in prompt else plain(prompt))
    try:
        found = json.loads(text.replace("\ufeff", " "), strict=False)
    except json.JSONDecodeError as error:
        raise refuse(f"this is not valid JSON: {error.msg}", where, error.lineno - 1, error.colno - 1,
                     "Correct it, or paste its key frames alone.") from None
    except RecursionError:
        raise SettingsError("this JSON is nested too deeply", where=where,
                            remedy="Paste its key frames alone.") from None
    kind = next((kind for kind in _KINDS if isinstance(found.get(kind.keys), dict)), None)
    if kind is None:
        raise SettingsError("this JSON has no key frames", where=where, remedy='Write {"prompt_map": {"0": "text"}}.')
    return _script(prompt, found, kind, frames, where)


def _script(prompt: str, found: Mapping[str, Any], kind: _Kind, frames: int, where: str) -> Script:
    """Make a script of a parsed file. The FizzNodes reader parses the key frames' numbers."""
    entries = found[kind.keys]
    text = ",\n".join(f"{json.dumps(key)}: {json.dumps(text)}" for key, text in entries.items())
    bad = next((key for key, text in entries.items() if not isinstance(text, str)), None)
    if bad is not None or not fizz.is_fizz(text):
        what = "there is no key frame in it" if bad is None else f"the prompt of {quoted(bad)} is not text"
        raise SettingsError(what, where=f"{where}, {kind.keys}", remedy='Write "FRAME": "text".')
    names, begin = list(entries), prompt.find(kind.keys)
    keys = tuple(replace(key, line=prompt.count("\n", 0, prompt.find(names[key.line - 1], begin)) + 1)
                 for key in fizz.read(text, frames, f"{where}, {kind.keys}").keys)
    head, tail = (found[name] if isinstance(found.get(name), str) else "" for name in (kind.head, kind.tail))
    return Script(kind.syntax, head, keys, tail, notes=_notes(found, kind, where))


def _notes(found: Mapping[str, Any], kind: _Kind, where: str) -> tuple[str, ...]:
    read = [name for name in (kind.keys, kind.head, kind.tail) if found.get(name)]
    rest = [name for name in found if name not in kind]
    if not rest:
        return ()
    shown = ", ".join(rest[:12]) + (" …" if len(rest) > 12 else "")
    return (f"{where}: of this JSON only {', '.join(read)} {'is' if len(read) == 1 else 'are'} read, not {shown}",)
