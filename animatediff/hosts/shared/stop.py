"""Stopping a job with a message.

The WebUI catches exceptions of script hooks, so a hook cannot end a job by raising one. Instead it replaces attributes
of the job's `p` by objects that raise when the host uses them, outside any such handler. Then the job ends and the
queue goes on. The page shows the message (a1111/page_errors.py), and the API returns the exception's `status_code` and
`detail`. Only `p` is changed, which lives as long as the job.
"""
from __future__ import annotations

from typing import Any, NoReturn

from fastapi import HTTPException

from animatediff.errors import AnimateDiffError


class AnimateDiffStopped(HTTPException):
    """Raised to end a job. The text contains the place, the problem and the remedy."""

    def __init__(self, error: AnimateDiffError):
        super().__init__(status_code=error.http_status, detail=str(error))
        self.error = error

    def __str__(self) -> str:
        return self.detail


class _Raises(dict):
    """A dict that raises when it is read."""

    def __init__(self, error: AnimateDiffError):
        super().__init__()
        self.error = error

    def keys(self, *_: Any) -> NoReturn:
        raise AnimateDiffStopped(self.error)

    get = items = __iter__ = __len__ = __getitem__ = keys


def before_anything(p: Any, error: AnimateDiffError) -> None:
    """Stop a job in `before_process`, before the host applies settings or loads a checkpoint."""
    p.override_settings = _Raises(error)
    _stop_a_plot(p, error)


def before_sampling(p: Any, error: AnimateDiffError) -> None:
    """Stop a job in `process`, before latents are created. The other scripts' `process` hooks still run."""

    def init(*_: Any, **__: Any) -> NoReturn:
        _stop_a_plot(p, error)
        raise AnimateDiffStopped(error)

    p.init = init


def _stop_a_plot(p: Any, error: AnimateDiffError) -> None:
    """Stop the X/Y/Z plot too. It continues after any exception, and reads the prompts next."""
    p.all_prompts = _Raises(error)


def in_place_of(host: Any, names: tuple[str, ...], error: AnimateDiffError) -> None:
    """Make the methods `names` of `host` raise."""

    def stop(*_: Any, **__: Any) -> NoReturn:
        raise AnimateDiffStopped(error)

    for name in names:
        setattr(host, name, stop)
