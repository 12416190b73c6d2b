"""Errors of jobs that the page starts, shown in the page's words in the host's place for errors.

The host would put the exception's class in front and write a traceback into the log. The API starts its jobs another
way and uses its own names.
"""
from __future__ import annotations

import html
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from functools import wraps
from typing import Any

from modules import img2img, txt2img, ui_common

from animatediff.attribute import wrapped
from animatediff.hosts.a1111 import words
from animatediff.hosts.shared.stop import AnimateDiffStopped


def errors_on_the_page() -> AbstractContextManager[Any]:
    """Return a context manager. Inside it, the page shows our errors without class name and traceback."""
    stack = ExitStack()
    for module, name in ((txt2img, "txt2img"), (img2img, "img2img")):
        stack.enter_context(wrapped(module, function(module, name), _showing_errors))
    return stack


def function(module: Any, name: str) -> str:
    """Return the name of the function that makes a job of the page. Forge runs it in a thread, which drops exceptions.
    """
    of_thread = f"{name}_function"
    return of_thread if hasattr(module, of_thread) else name


def markup(text: str) -> str:
    """Return the HTML of a message under the gallery."""
    return f"<div class='error ad-error'>{html.escape(text)}</div>"


def _showing_errors(plain: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(plain)
    def generate(*args: Any, **kwargs: Any) -> Any:
        try:
            return plain(*args, **kwargs)
        except AnimateDiffStopped as stopped:
            shown = [None, None] if _has_player() else [None]
            return *shown, "", "", markup(words.error(stopped.error))  # behind the gallery: facts, infotext and log

    return generate


def _has_player() -> bool:
    """Whether the host's results have a video player beside the gallery, as in Forge Neo."""
    return hasattr(ui_common.OutputPanel, "player")
