"""The native syntax of prompt travel: head lines, `FRAME: text` lines, tail lines.

    masterpiece, best quality
    0: a red circle
    8 ease-in-out: a blue square
    white background

A frame's prompt is head, text and tail, joined with ", ". Between the number and the colon may stand the easing of the
way to the next key frame.
"""
from __future__ import annotations

import re
from collections.abc import Sequence

from animatediff.errors import quoted
from animatediff.travel.reading import Script, joined, refuse
from animatediff.travel.schedule import EASINGS, Key

KEY = re.compile(r"[ \t]*(?P<frame>\d{1,6})(?:[ \t]+(?P<easing>[A-Za-z][A-Za-z-]*))?[ \t]*:(?P<text>.*)")
RATIO = re.compile(r"\d+(?:\.\d+)?(?=[\s,]|$)")  # what stands behind the colon of 16:9; 0:1girl is a key frame


def is_native(prompt: str) -> bool:
    """Whether a line is a key frame. One such as `3 cats: a story` is none by itself."""
    return any(found and _easing(found) in ("", *EASINGS) for found in map(_key, prompt.splitlines()))


def read(prompt: str, where: str) -> Script:
    """SettingsError names line and column."""
    lines = prompt.splitlines()
    numbers = [number for number, line in enumerate(lines) if _key(line)]
    keys: dict[int, Key] = {}
    for number in range(numbers[0], numbers[-1] + 1):
        line, found = lines[number], _key(lines[number])
        if not line.strip():
            continue
        if not found:
            raise refuse(f"{quoted(line.strip())} stands between two key frames", where, number,
                         len(line) - len(line.lstrip()), "Begin it with FRAME: or move it before the first key frame "
                         "or behind the last one.")
        frame, easing = int(found["frame"]), _easing(found)
        if easing and easing not in EASINGS:
            raise refuse(f"{quoted(found['easing'])} is no easing", where, number, found.start("easing"),
                         f"Use {', '.join(EASINGS)}, or none.")
        if frame in keys:
            raise refuse(f"frame {frame} has a prompt already, in line {keys[frame].line}", where, number,
                         found.start("frame"), "Remove one of the two.")
        keys[frame] = Key(frame, found["text"].strip(), easing, number + 1, found.start("frame") + 1)
    return Script("native", joined(*lines[:numbers[0]]), tuple(keys[frame] for frame in sorted(keys)),
                  joined(*lines[numbers[-1] + 1:]))


def write(keys: Sequence[Key]) -> str:
    """The text of which `read` makes the same key frames."""
    return "\n".join(f"{key.frame}{' ' + key.easing if key.easing else ''}: {key.text}".rstrip() for key in keys)


def _easing(found: re.Match[str]) -> str:
    return (found["easing"] or "").lower()


def _key(line: str) -> re.Match[str] | None:
    found = KEY.fullmatch(line)
    return None if found and RATIO.match(found["text"]) else found
