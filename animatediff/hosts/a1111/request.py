"""Reading the script arguments of a request as Settings.

The arguments are the values of the page's controls in `ORDER`. API clients send them by position or, better, as one
object with names. Names of older clients are accepted too (clip/legacy.py).
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from animatediff import settings
from animatediff.clip import legacy
from animatediff.errors import SettingsError
from animatediff.hosts.shared import json_values
from animatediff.settings import BY_NAME, PARAMETERS, Settings

ORDER = tuple(p.name for p in PARAMETERS if p.group == "clip")


HOW = 'Send "args": [{"enable": true, "model": "…", "video_length": 16}].'


def arguments(entry: Any) -> list[Any]:
    """Return the arguments in a request's alwayson_scripts.AnimateDiff. SettingsError for an invalid entry.

    One object with names is accepted without a list around it.
    """
    args = entry.get("args", []) if isinstance(entry, dict) else None
    if isinstance(args, dict):
        args = [args]
    if not isinstance(args, list):
        raise SettingsError("the entry is no object with a list of arguments", where="AnimateDiff", remedy=HOW)
    return args


def read(args: Sequence[Any], more: Mapping[str, Any] | None = None) -> Settings | None:
    """Return the Settings of a request, or None if it does not enable us. SettingsError for a wrong value.

    The values of a page on which Enable is off are not checked.
    more: values that override the arguments (X/Y/Z plot).
    """
    if args and isinstance(args[0], Mapping):
        json_values.check(args[0], "args")
        values = legacy.of_request(args[0])
    else:
        if args and not isinstance(args[0], (bool, type(None), str, int)):
            raise SettingsError(f"{type(args[0]).__name__} is neither an object with names nor {ORDER[0]}",
                                where="args", remedy=HOW)
        values = {name: value for name, value in zip(ORDER, args) if value is not None}
        if values.get("enable") in (False, None) and not (more or {}).get("enable"):
            return None
        json_values.check(values, "args")
    more = more or {}
    values = {key: value for key, value in values.items() if key not in BY_NAME or BY_NAME[key].name not in more}
    picture = values.pop("last_frame", "")
    wanted = settings.parse({**values, **more})
    if picture:
        from animatediff.hosts.a1111 import pictures

        wanted = replace(wanted, last_frame=pictures.reference(picture))
    return wanted if wanted.enable else None
