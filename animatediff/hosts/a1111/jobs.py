"""Which clip a request of the host asks for, found from the request."""
from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import ContextVar
from functools import wraps
from typing import Any

from animatediff.attribute import wrapped
from animatediff.errors import AnimateDiffError

JOB = "animatediff_job"  # attribute of `p`
PASS = "animatediff_pass"  # attribute of the host's denoiser, while it samples a clip
# The host's function that makes the pictures of a `p`. Others may have imported the second one already.
PROCESSING = ("process_images_inner", "process_images")
_processed: ContextVar[Any] = ContextVar("the `p` whose pictures are being made", default=None)


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
    frame; None if there is none. Such a job is of single pictures, even where it has the clip's arguments."""
    outer = _processed.get()
    return outer if outer is not None and outer is not p and of(outer) is not None else None


def noting_clips() -> AbstractContextManager[None]:
    """While it lasts, `clip_around` knows a clip for as long as the host makes its pictures, however that ends."""
    from modules import processing

    return wrapped(processing, next(name for name in PROCESSING if hasattr(processing, name)), _noting)


def _noting(plain: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(plain)
    def process_images(p: Any, *args: Any, **kwargs: Any) -> Any:
        if clip_around(p) is not None:
            return plain(p, *args, **kwargs)
        token = _processed.set(p)
        try:
            return plain(p, *args, **kwargs)
        finally:
            _processed.reset(token)

    return process_images


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
