"""`{@a|b||c}` of Dynamic Prompts: frame i shows option i mod n. Read by the library `dynamicprompts`."""
from __future__ import annotations

import random
from functools import lru_cache

from animatediff.errors import SettingsError, quoted
from animatediff.travel.reading import package, place, refuse

OPENER = "{@"


def is_cyclic(prompt: str) -> bool:
    return OPENER in prompt


def at_frame(text: str, frame: int, frames: int, where: str) -> str:
    """The text with every cyclic group's option of this frame. Other text, other variants too, stays as it is."""
    if OPENER not in text:
        return text
    parts, at = [], 0
    for start, end in _groups(text, where):
        parts += [text[at:start], _options(text[start:end], frames, where)[frame]]
        at = end
    return "".join([*parts, text[at:]])


def _groups(text: str, where: str) -> list[tuple[int, int]]:
    """Where the outermost cyclic groups begin and end."""
    found, at = [], 0
    while (start := text.find(OPENER, at)) >= 0:
        depth = 0
        for at in range(start, len(text)):
            depth += {"{": 1, "}": -1}.get(text[at], 0)
            if depth == 0:
                break
        else:
            raise refuse("this { is never closed", where, *place(text, start), "Write {@a|b|c}.")
        at += 1
        found.append((start, at))
    return found


@lru_cache(maxsize=256)
def _options(group: str, frames: int, where: str) -> tuple[str, ...]:
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
        return tuple(str(prompt) for prompt in context.sample_prompts(parse(group), frames))
    except (pyparsing.ParseBaseException, ValueError, TypeError, IndexError) as error:
        raise SettingsError(f"{quoted(group)} cannot be read: {error}", where=where,
                            remedy="Write {@a|b|c}.") from error
