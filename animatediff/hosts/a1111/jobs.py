"""Which clip a request of the host asks for, found from the request."""
from __future__ import annotations

import sys
from typing import Any

from animatediff.errors import AnimateDiffError

JOB = "animatediff_job"  # attribute of `p`
PASS = "animatediff_pass"  # attribute of the host's denoiser, while it samples a clip


class OurScript:
    """What our Script class is told by, among the host's. args_from, args_to: its place in a request's arguments, set
    by the host."""

    args_from: int
    args_to: int


def of(p: Any) -> Any:
    """The job of `p`, if it is its own and not that of a `p` which it is a copy of."""
    current = vars(p).get(JOB)
    return current if current is not None and current.p is p else None


def clip_around(p: Any) -> Any:
    """The `p` of the clip inside whose job `p` is a job of its own, as when an extension repaints a face in a finished
    frame; None if there is none. Such a job is of single pictures, even where it has the clip's arguments.

    The stack is asked, since it cannot be out of date: a job may end by an exception that no hook sees.
    """
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "process_images" and frame.f_globals.get("__name__") == "modules.processing":
            outer = frame.f_locals.get("p")
            if outer is not p and of(outer) is not None:
                return outer
        frame = frame.f_back
    return None


def arguments(p: Any) -> tuple[Any, ...]:
    """This script's arguments in a request; none where it has no part in it."""
    for script in getattr(p.scripts, "alwayson_scripts", None) or ():
        if isinstance(script, OurScript):
            return tuple(p.script_args[script.args_from:script.args_to])
    return ()


def asked(p: Any) -> bool:
    """Whether a request asks for a clip, be it in a wrong way."""
    try:
        return settings_of(p) is not None
    except AnimateDiffError:
        return True


def settings_of(p: Any) -> Any:
    """The Settings of the clip that a request asks for, None if it does not; SettingsError as in `request.read`."""
    from animatediff.hosts.a1111 import request

    if current := of(p):
        return current.settings
    if clip_around(p):
        return None
    return request.read(arguments(p), getattr(p, "animatediff_xyz", None))
