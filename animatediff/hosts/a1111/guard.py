"""Errors of the host's hooks.

The host logs what a hook raises and goes on. These functions return the error, or make the job stop with it.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from modules import errors

from animatediff.errors import AnimateDiffError
from animatediff.hosts.shared import stop


def failure(hook: Callable[[], Any]) -> AnimateDiffError | None:
    """Run a hook. Return its error, or None. The traceback of an unexpected error goes to the log."""
    try:
        hook()
        return None
    except AnimateDiffError as error:
        return error
    except Exception as error:
        errors.report("AnimateDiff: unexpected error", exc_info=True)
        shown = AnimateDiffError(f"{type(error).__name__}: {error}",
                                 remedy="The log has the details; please report them with the settings.")
        shown.http_status = 500
        return shown


def guarded(p: Any, stopping: Any, hook: Callable[[], Any]) -> bool:
    """Run a hook. If it fails, stop the job by `stopping(p, error)`. Return True if it succeeded."""
    if error := failure(hook):
        print(f"AnimateDiff: {error}")
        stopping(p, error)
    return error is None


def stop_sampler(p: Any, error: AnimateDiffError) -> None:
    """Stop a job whose latents have been created."""
    stop.in_place_of(p.sampler, ("sample", "sample_img2img"), error)
