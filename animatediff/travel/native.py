"""The native syntax of prompt travel: head lines, `FRAME: text` lines, tail lines.

    masterpiece, best quality
    0: a red circle
    8 ease-in-out: a blue square
    100%: a green star
    white background

A frame's prompt is head, text and tail, joined with ", ". A frame's number may also count from the end (-1 is the last
frame) or be a share of the clip (50%). An easing between the number and the colon applies up to the next key frame.
"""
from __future__ import annotations

import re
from collections.abc import Sequence

from animatediff.errors import quoted
from animatediff.travel.characters import plain
from animatediff.travel.reading import FRAME, Loose, Script, frame_of, joined, refuse
from animatediff.travel.schedule import EASINGS, Key

KEY = re.compile(rf"\s*(?P<quote>[\"']?)(?P<frame>{FRAME})(?P=quote)"
                 r"(?:\s+(?P<easing>[A-Za-z][A-Za-z-]*))?\s*:(?P<text>.*)")
RATIO = re.compile(r"\d+(?:\.\d+)?(?=[\s,]|$)")  # the part after the colon in 16:9; 0:1girl is a key frame
# Some shells and forms pass a line break as it was typed: a backslash and an n.
TYPED_BREAK = re.compile(rf"\\n(?=\s{{0,9}}{FRAME}(?:\s+[A-Za-z-]+)?\s{{0,9}}:)")


def is_native(prompt: str) -> bool:
    """Return whether a line is a key frame. `3 cats: a story` is none, since `cats` is not an easing."""
    return any(found and _easing(found) in ("", *EASINGS) for found in map(_key, _lines(prompt)))


def read(prompt: str, frames: int, where: str) -> Script:
    """Parse the prompt. Raise SettingsError with line and column."""
    lines = _lines(prompt)
    found = [_key(line) for line in lines]
    numbers = [number for number, key in enumerate(found) if key]
    keys: dict[int, Key] = {}
    for number in range(numbers[0], numbers[-1] + 1):
        line, key = lines[number], found[number]
        if not line.strip():
            continue
        if not key:
            raise refuse(f"{quoted(line.strip())} is between two key frames", where, number,
                         len(line) - len(line.lstrip()), "Begin it with FRAME: or move it before the first key frame "
                         "or after the last one.")
        frame, easing = frame_of(key["frame"], frames, where, number, key.start("frame")), _easing(key)
        if easing and easing not in EASINGS:
            raise refuse(f"{quoted(key['easing'])} is not an easing", where, number, key.start("easing"),
                         f"Use {', '.join(EASINGS)}, or none.")
        if frame in keys:
            raise refuse(f"frame {frame} has a prompt already, in line {keys[frame].line}", where, number,
                         key.start("frame"), "Remove one of the two.")
        keys[frame] = Key(frame, line[key.start("text"):].strip(), easing, number + 1, key.start("frame") + 1)
    loose = tuple(Loose(number + 1, line, behind=number > numbers[-1]) for number, line in enumerate(lines)
                  if not numbers[0] <= number <= numbers[-1])
    return Script("native", joined(*lines[:numbers[0]]), tuple(keys[frame] for frame in sorted(keys)),
                  joined(*lines[numbers[-1] + 1:]), loose)


def write(keys: Sequence[Key]) -> str:
    """Return the text that `read` parses into the same key frames."""
    return "\n".join(f"{key.frame}{' ' + key.easing if key.easing else ''}: {key.text}".rstrip() for key in keys)


def _lines(prompt: str) -> list[str]:
    if TYPED_BREAK.search(plain(prompt)):
        prompt = prompt.replace("\\n", "\n")
    return prompt.splitlines()


def _easing(found: re.Match[str]) -> str:
    return (found["easing"] or "").lower()


def _key(line: str) -> re.Match[str] | None:
    found = KEY.fullmatch(plain(line))
    return None if found and RATIO.match(found["text"]) else found
