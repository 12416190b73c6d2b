"""Stopping a job with a message.

The WebUI swallows what script hooks raise, so a hook cannot end a job by raising. It can leave something on the
job's own `p` that raises where nothing catches it: the host's next use of it ends the job, the queue goes on, the
page shows the message (a1111/page_errors.py), and the API, which answers with an exception's `status_code` and
`detail`, sends a 4xx. Only `p` is touched, which lives as long as the job.
"""
from __future__ import annotations

from typing import Any, NoReturn

from fastapi import HTTPException

from animatediff.errors import AnimateDiffError


class AnimateDiffStopped(HTTPException):
    """The job cannot be done; its text says what, where and the remedy."""

    def __init__(self, error: AnimateDiffError):
        super().__init__(status_code=error.http_status, detail=str(error))
        self.error = error

    def __str__(self) -> str:
        return self.detail


class _Raises(dict):
    """A dict whose keys cannot be had."""

    def __init__(self, error: AnimateDiffError):
        super().__init__()
        self.error = error

    def keys(self, *_: Any) -> NoReturn:
        raise AnimateDiffStopped(self.error)

    get = items = __iter__ = __len__ = __getitem__ = keys


def before_anything(p: Any, error: AnimateDiffError) -> None:
    """From `before_process`: the job ends before the host applies settings or loads a checkpoint."""
    p.override_settings = _Raises(error)
    _stop_a_plot(p, error)


def before_sampling(p: Any, error: AnimateDiffError) -> None:
    """From `process`: the job ends before latents are made, when the other scripts have had their turn."""

    def init(*_: Any, **__: Any) -> NoReturn:
        _stop_a_plot(p, error)
        raise AnimateDiffStopped(error)

    p.init = init


def _stop_a_plot(p: Any, error: AnimateDiffError) -> None:
    """The X/Y/Z plot goes on after any exception, and asks for the prompts next."""
    p.all_prompts = _Raises(error)


def in_place_of(host: Any, names: tuple[str, ...], error: AnimateDiffError) -> None:
    """The methods `names` of this object raise."""

    def stop(*_: Any, **__: Any) -> NoReturn:
        raise AnimateDiffStopped(error)

    for name in names:
        setattr(host, name, stop)
