"""The cyclic syntax `{@a|b||c}` of Dynamic Prompts: frame i shows option i mod n.

The library `dynamicprompts` parses the groups.
"""
from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from threading import Lock

from animatediff.errors import SettingsError, quoted
from animatediff.travel.reading import package, place, refuse

OPENER = "{@"
MOST_PARTS = 1000  # options and groups in a prompt; the library takes a millisecond for each
MOST_PICKED = 10_000  # product of the counts N in `N$$`, over all groups of a prompt
_PARTS, _PICKED = re.compile(r"[{|]"), re.compile(r"(\d{1,20})\$\$")


def is_cyclic(prompt: str) -> bool:
    return OPENER in prompt


def check(prompt: str, where: str) -> None:
    """Raise SettingsError for too many options, and with line and column for a group that is never closed."""
    try:
        groups = [prompt[start:end] for start, end in _groups(prompt)]
        if groups and (sum(len(_PARTS.findall(group)) for group in groups) > MOST_PARTS or math.prod(
                int(number[:9]) for group in groups for number in _PICKED.findall(group)[:99]) > MOST_PICKED):
            raise _refused(groups[0], "it has too many options", where)
    except _Unclosed as found:
        raise refuse("this { is never closed", where, *place(prompt, found.args[0]), "Write {@a|b|c}.") from None


def read(text: str, frames: int, where: str) -> Callable[[int], str]:
    """Return a function from a frame's number to its text.

    Each cyclic group is replaced by the frame's option. Other text stays as it is, variants such as `{a|b}` included.
    """
    parts: list[str | _Drawn] = []
    at = 0
    try:
        groups = _groups(text)
    except _Unclosed as found:
        raise _refused(text[found.args[0]:], "its { is never closed in this key frame", where) from None
    for start, end in groups:
        parts += [text[at:start], _options(text[start:end], frames, where)]
        at = end
    parts.append(text[at:])
    return lambda frame: "".join(part if isinstance(part, str) else part[frame] for part in parts)


class _Unclosed(Exception):
    """A group is never closed. The argument is the offset where it begins."""


def _groups(text: str) -> list[tuple[int, int]]:
    """Return the start and end offsets of the outermost cyclic groups."""
    found, at = [], 0
    while (start := text.find(OPENER, at)) >= 0:
        depth = 0
        for at in range(start, len(text)):
            depth += {"{": 1, "}": -1}.get(text[at], 0)
            if depth == 0:
                break
        else:
            raise _Unclosed(start)
        at += 1
        found.append((start, at))
    return found


class _Drawn:
    """The option of a group for each frame. The library is asked for options only up to the highest frame needed."""

    def __init__(self, prompts: Iterator[object], group: str, where: str):
        self.prompts, self.group, self.where = prompts, group, where
        self.found: list[str] = []
        self.lock = Lock()

    def __getitem__(self, frame: int) -> str:
        try:
            with self.lock:
                while len(self.found) <= frame:
                    self.found.append(str(next(self.prompts)))
        except RecursionError:
            raise _refused(self.group, "it is nested too deeply", self.where) from None
        except (ValueError, TypeError, IndexError) as error:
            raise _refused(self.group, str(error), self.where) from error
        return self.found[frame]


@lru_cache(maxsize=256)
def _options(group: str, frames: int, where: str) -> _Drawn:
    """Parse a group. Raise SettingsError if it cannot be parsed or its first option cannot be drawn."""
    package("dynamicprompts")
    import pyparsing
    from dynamicprompts.enums import SamplingMethod
    from dynamicprompts.parser.parse import parse
    from dynamicprompts.sampling_context import SamplingContext
    from dynamicprompts.wildcards.wildcard_manager import WildcardManager

    context = SamplingContext(default_sampling_method=SamplingMethod.RANDOM, wildcard_manager=WildcardManager(None),
                              rand=random.Random(0))
    try:
        drawn = _Drawn(iter(context.sample_prompts(parse(group), frames)), group, where)
        drawn[0]
        return drawn
    except RecursionError:
        raise _refused(group, "it is nested too deeply", where) from None
    except (pyparsing.ParseBaseException, ValueError, TypeError, IndexError) as error:
        raise _refused(group, str(error), where) from error


def _refused(group: str, why: str, where: str) -> SettingsError:
    return SettingsError(f"{quoted(group)} cannot be read: {why}", where=where, remedy="Write {@a|b|c}.")
