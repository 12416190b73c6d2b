"""What a request asks of us: script arguments to Settings.

The arguments are the page's controls in `ORDER`. An API client sends them by position or, better, one object with
names; existing clients' names are known. Parameters of features that are not here yet are taken as long as they ask for
nothing.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from animatediff import settings
from animatediff.errors import SettingsError
from animatediff.hosts.shared.infotext import FREEINIT_ITERATIONS
from animatediff.settings import BY_NAME, PARAMETERS, Settings

ORDER = tuple(p.name for p in PARAMETERS if p.group == "clip")

# Names that existing clients send, with the values that ask for nothing. ... stands for any value: it is
# read only beside another parameter of its feature.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "interp": ("Off", "", None),
    "interp_x": (...,),
    "video_source": (None, ""),
    "video_path": (None, ""),
    "video_default": (...,),
    "mask_path": (None, ""),
    "is_i2i_batch": (False, None, True),  # one clip of all pictures, which is what several pictures are
    "prompt_scheduler": (None,),
}
_IN_PLACE_OF_NONE = {name: p.default for name, p in BY_NAME.items()}


def read(args: Sequence[Any], more: Mapping[str, Any] | None = None) -> Settings | None:
    """Settings of a request, None where it does not enable us. `more`: values that overrule (X/Y/Z plot).

    SettingsError where a value is wrong; the values of a page on which Enable is off are not looked at.
    """
    if args and isinstance(args[0], Mapping):
        values = _named(args[0])
    else:
        if args and not isinstance(args[0], (bool, type(None), str, int)):
            raise SettingsError(f"{type(args[0]).__name__} is neither an object with names nor {ORDER[0]}",
                                where="args",
                                remedy='Send "args": [{"enable": true, "model": "…", "video_length": 16}].')
        values = {name: value for name, value in zip(ORDER, args) if value is not None}
        if values.get("enable") in (False, None) and not (more or {}).get("enable"):
            return None
    more = more or {}
    values = {key: value for key, value in values.items() if key not in BY_NAME or BY_NAME[key].name not in more}
    if values.get("last_frame"):
        from animatediff.hosts.a1111 import pictures

        values["last_frame"] = pictures.reference(values["last_frame"])
    wanted = settings.parse({**values, **more})
    return wanted if wanted.enable else None


def _named(values: Mapping[str, Any]) -> dict[str, Any]:
    """The names of an object, without those that ask for nothing."""
    named = {}
    for key, value in _freeinit(values).items():
        neutral = _NEUTRAL.get(key)
        if neutral is None:
            named[key] = value
        elif ... not in neutral and value not in neutral:
            raise SettingsError(f"{value!r:.80} asks for something that this version cannot do yet", where=key,
                                remedy=f"Leave {key} out.")
    return {key: _IN_PLACE_OF_NONE.get(key, "") if value is None else value for key, value in named.items()}


def _freeinit(values: Mapping[str, Any]) -> dict[str, Any]:
    """The older extension's switch and number of iterations as our number; both count the first one. Without the
    switch, its number asks for nothing."""
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
        raise SettingsError(f"{switch!r} with {number} contradicts {ours.name} = {rest[ours.name]!r}, "
                            "which means the same", where="freeinit_enable", remedy=f"Give {ours.name} only.")
    return {**rest, ours.name: number}
