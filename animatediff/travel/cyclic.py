"""`{@a|b||c}` of Dynamic Prompts: frame i shows option i mod n. Read by the library `dynamicprompts`."""
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
MOST_PARTS = 1000  # options and groups of a prompt; the library takes a millisecond for each
MOST_PICKED = 10_000  # options that are joined where one says how many, as 2$$ does, over all groups
_PARTS, _PICKED = re.compile(r"[{|]"), re.compile(r"(\d{1,20})\$\$")


def is_cyclic(prompt: str) -> bool:
    return OPENER in prompt


def check(prompt: str, where: str) -> None:
    """SettingsError for more than can be read, and with line and column for a group that is never closed."""
    try:
        groups = [prompt[start:end] for start, end in _groups(prompt)]
        if groups and (sum(len(_PARTS.findall(group)) for group in groups) > MOST_PARTS or math.prod(
                int(number[:9]) for group in groups for number in _PICKED.findall(group)[:99]) > MOST_PICKED):
            raise _refused(groups[0], "it has too many options", where)
    except _Open as found:
        raise refuse("this { is never closed", where, *place(prompt, found.args[0]), "Write {@a|b|c}.") from None


def read(text: str, frames: int, where: str) -> Callable[[int], str]:
    """What the text says in a frame: every cyclic group's option. Other text, other variants too, stays as it is."""
    parts: list[str | _Drawn] = []
    at = 0
    try:
        groups = _groups(text)
    except _Open as found:
        raise _refused(text[found.args[0]:], "its { is never closed in this key frame", where) from None
    for start, end in groups:
        parts += [text[at:start], _options(text[start:end], frames, where)]
        at = end
    parts.append(text[at:])
    return lambda frame: "".join(part if isinstance(part, str) else part[frame] for part in parts)


class _Open(Exception):
    """Where a group begins that is never closed."""


def _groups(text: str) -> list[tuple[int, int]]:
    """Where the outermost cyclic groups begin and end."""
    found, at = [], 0
    while (start := text.find(OPENER, at)) >= 0:
        depth = 0
        for at in range(start, len(text)):
            depth += {"{": 1, "}": -1}.get(text[at], 0)
            if depth == 0:
                break
        else:
            raise _Open(start)
        at += 1
        found.append((start, at))
    return found


class _Drawn:
    """What the group says in each frame, drawn as far as it is asked for."""

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
    """What the group says in each frame."""
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
