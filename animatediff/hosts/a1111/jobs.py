"""The clip that a request of the host asks for."""
from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import ContextVar
from functools import wraps
from typing import Any

from animatediff.attribute import wrapped
from animatediff.errors import AnimateDiffError

JOB = "animatediff_job"  # attribute of `p`
SOUND = "animatediff_sound"  # attribute of `p`
ALPHA = "animatediff_alpha"  # attribute of `p`
PASS = "animatediff_pass"  # attribute of the host's denoiser while it samples a clip
# The host's function that makes the pictures of a `p`. Other modules may already have imported the second one.
PROCESSING = ("process_images_inner", "process_images")
_processed: ContextVar[Any] = ContextVar("the `p` whose pictures are being made", default=None)


class OurScript:
    """Base class that identifies our Script class among the host's.

    args_from, args_to: its range in a request's arguments, set by the host.
    """

    args_from: int
    args_to: int


def of(p: Any) -> Any:
    """Return the job of `p`, or None. A copy of a `p` does not own the job of the original."""
    current = vars(p).get(JOB)
    return current if current is not None and current.p is p else None


def clip_around(p: Any) -> Any:
    """Return the `p` of the clip whose job has started the job of `p`, or None.

    An extension may start such a job, for example to repaint a face in a finished frame. It makes single pictures, even
    if it has the clip's arguments.
    """
    outer = _processed.get()
    return outer if outer is not None and outer is not p and of(outer) is not None else None


def noting_clips() -> AbstractContextManager[None]:
    """Return a context manager. Inside it, `clip_around` knows a clip while the host makes its pictures."""
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


def sound_of(p: Any) -> Any:
    """Return the sound of the finished clip that `p` refines, or None."""
    return getattr(p, SOUND, None)


def alpha_of(p: Any) -> Any:
    """Return the alpha channels, uint8 [f h w], of the finished clip that `p` refines, or None."""
    return getattr(p, ALPHA, None)


def arguments(p: Any) -> tuple[Any, ...]:
    """Return this script's arguments in a request, or () if the request does not use the script."""
    for script in getattr(p.scripts, "alwayson_scripts", None) or ():
        if isinstance(script, OurScript):
            return tuple(p.script_args[script.args_from:script.args_to])
    return ()


def wants_clip(p: Any) -> bool:
    """Whether a request enables a clip, even with invalid settings."""
    try:
        return settings_of(p) is not None
    except AnimateDiffError:
        return True


def settings_of(p: Any) -> Any:
    """Return the Settings of the clip that a request asks for, or None. SettingsError as in `request.read`."""
    from animatediff.hosts.a1111 import request

    if current := of(p):
        return current.settings
    if clip_around(p):
        return None
    return request.read(arguments(p), getattr(p, "animatediff_xyz", None))
