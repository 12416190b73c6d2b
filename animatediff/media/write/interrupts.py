"""Ctrl-C while files are written."""
from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


@contextmanager
def uninterrupted(*, leaving: bool = False) -> Iterator[None]:
    """Delay Ctrl-C until the block ends. A second Ctrl-C acts at once; further ones are ignored.

    leaving: an exception is already being handled, so one Ctrl-C is ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)
    if not callable(before):  # SIGINT is ignored, or handled outside Python
        yield
        return
    waiting: list[tuple[int, FrameType | None]] = []

    def later(number: int, frame: FrameType | None) -> Any:
        waiting.append((number, frame))
        if len(waiting) == 2:  # a third one is ignored, since the cleanup must run in any case
            return before(number, frame)

    signal.signal(signal.SIGINT, later)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if len(waiting) == 1 and not leaving:
        before(*waiting[0])
