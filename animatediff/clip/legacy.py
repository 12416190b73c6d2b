"""Parameters of older clients, by the names and values of the older AnimateDiff extension.

A name that means the same as one of ours is an alias in the table of settings (`aliases`). This module handles what
an alias cannot: a switch combined with a number, values without effect, and the older extension's infotexts.
"""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from animatediff.errors import SettingsError, quoted
from animatediff.settings import BY_NAME

FREEINIT_ITERATIONS = 3  # if FreeInit is enabled without a number of iterations
# Names that clients send, and their values without effect. ... stands for any value: the parameter has an effect only
# together with another parameter of its feature.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "video_default": (...,),
    "reverse": ([], (), "", None, False),
    "use_f16": (...,),  # the precision is the host's
    "is_i2i_batch": (False, None, True),  # one clip from all pictures; several pictures make one clip anyway
    "prompt_scheduler": (None,),
}
# Alternatives with the same or a similar effect.
INSTEAD = {
    "reverse": 'Use "closed_loop": "ping-pong", which plays the clip to and fro.',
    "prompt_scheduler": "Write the key frames into the prompt, such as 0: a red circle, each in a line of its own.",
}
NO_INTERPOLATION = ("Off", "off", "", None, False)  # with these, interp_x (10 by default) has no effect
OLDER_LOOPS = {False: "none", True: "R+P"}  # closed_loop was a switch
_IN_PLACE_OF_NONE = {name: p.default for name, p in BY_NAME.items()}


def of_request(values: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the values of a request to values that the table of settings reads.

    Raises SettingsError for a feature that is not supported yet.
    """
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
    """Return whether the older extension wrote an infotext. It writes video_length instead of frames."""
    return "frames" not in infotext


def of_infotext(infotext: Mapping[str, str]) -> dict[str, str]:
    """Convert the values of the older extension's infotext to values that the table of settings reads.

    The infotext does not contain the number of FreeInit iterations, and contains None for missing values.
    """
    values = {name: value for name, value in infotext.items() if value != "None"}
    if values.get("interp") in NO_INTERPOLATION:
        values = {name: value for name, value in values.items() if name not in ("interp", "interp_x")}
    if infotext.get("freeinit_enable") == "True":
        values.setdefault("freeinit_iterations", str(FREEINIT_ITERATIONS))
    return values


def _freeinit(values: Mapping[str, Any]) -> dict[str, Any]:
    """Convert FreeInit's switch and number of iterations to our number. Both numbers include the first iteration.

    The number has no effect without the switch.
    """
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
