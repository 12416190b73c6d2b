"""Parameters of older clients, by the names and values of the older AnimateDiff extension.

Names that mean the same as one of ours are that row's `aliases` in the table of settings. Here is what takes more than
another name: a switch with a number, values that ask for nothing, and its infotexts.
"""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from animatediff.errors import SettingsError, quoted
from animatediff.settings import BY_NAME

FREEINIT_ITERATIONS = 3  # where FreeInit is enabled and the number not said
# Names that clients send, with the values that ask for nothing. ... stands for any value: it is read only beside
# another parameter of its feature.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "video_default": (...,),
    "reverse": ([], (), "", None, False),
    "use_f16": (...,),  # the precision is the host's
    "is_i2i_batch": (False, None, True),  # one clip of all pictures, which is what several pictures are
    "prompt_scheduler": (None,),
}
# What does the same, or most of it.
INSTEAD = {
    "reverse": 'Use "closed_loop": "ping-pong", which plays the clip to and fro.',
    "prompt_scheduler": "Write the key frames into the prompt, such as 0: a red circle, each in a line of its own.",
}
NO_INTERPOLATION = ("Off", "off", "", None, False)  # then the number beside it, 10 by default, asks for nothing
OLDER_LOOPS = {False: "none", True: "R+P"}  # closed_loop was a switch
_IN_PLACE_OF_NONE = {name: p.default for name, p in BY_NAME.items()}


def of_request(values: Mapping[str, Any]) -> dict[str, Any]:
    """A request's object with names -> what the table of settings reads. SettingsError for what asks for a feature that
    is not here yet."""
    named = {}
    for key, value in _freeinit(values).items():
        neutral = NEUTRAL.get(key)
        if neutral is None:
            named[key] = value
        elif ... not in neutral and value not in neutral:
            raise SettingsError(f"{quoted(value)} is not supported yet", where=key,
                                remedy=f"Leave {key} out. {INSTEAD.get(key, '')}".rstrip())
    if named.get("interp") in NO_INTERPOLATION:
        named = {key: value for key, value in named.items() if key not in ("interp", "interp_x")}
    if isinstance(named.get("closed_loop"), bool):
        named["closed_loop"] = OLDER_LOOPS[named["closed_loop"]]
    if named.get("video_source") == []:
        named["video_source"] = ""
    return {key: _IN_PLACE_OF_NONE.get(key, "") if value is None else value for key, value in named.items()}


def wrote(infotext: Mapping[str, str]) -> bool:
    """Whether the values of an infotext are the older extension's, which says video_length for frames."""
    return "frames" not in infotext


def of_infotext(infotext: Mapping[str, str]) -> dict[str, str]:
    """The values of such an infotext -> what the table of settings reads. It does not say how many iterations FreeInit
    has, and writes None for what has no value."""
    values = {name: value for name, value in infotext.items() if value != "None"}
    if values.get("interp") in NO_INTERPOLATION:
        values = {name: value for name, value in values.items() if name not in ("interp", "interp_x")}
    if infotext.get("freeinit_enable") == "True":
        values.setdefault("freeinit_iterations", str(FREEINIT_ITERATIONS))
    return values


def _freeinit(values: Mapping[str, Any]) -> dict[str, Any]:
    """The switch and the number of iterations as our number; both count the first one. Without the switch, the number
    asks for nothing."""
    rest = {key: value for key, value in values.items() if key not in ("freeinit_enable", "freeinit_iters")}
    ours, switch, asked = BY_NAME["freeinit_iterations"], values.get("freeinit_enable"), values.get("freeinit_iters")
    if switch is None:
        return rest
    number = 1
    if BY_NAME["enable"].read(switch, "freeinit_enable"):
        number = FREEINIT_ITERATIONS if asked is None else ours.read(asked, "freeinit_iters")
        if asked is None and ours.name in rest:
            return rest
    if ours.read(rest.get(ours.name, number)) != number:
        raise SettingsError(f"{quoted(switch)} with {number} contradicts {ours.name} = {quoted(rest[ours.name])}, "
                            "which means the same", where="freeinit_enable", remedy=f"Give {ours.name} only.")
    return {**rest, ours.name: number}
