"""Guard a command against closed or full output streams, characters they cannot encode, and repeated Ctrl-C."""
from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any


class Stream:
    """A text stream that never raises. After the first `error`, nothing more is written."""

    def __init__(self, stream: Any):
        # None under pythonw, or if the shell has closed it
        self._stream = open(os.devnull, "w") if stream is None else stream  # noqa: SIM115 - open until the program ends
        self.error: Exception | None = None

    def write(self, text: str) -> int:
        if self.error is None:
            try:
                self._write(text)
            except (OSError, ValueError) as error:
                self._fail(error)
        return len(text)

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
        except UnicodeEncodeError as error:
            self._stream.write(text.encode(error.encoding, "backslashreplace").decode(error.encoding))

    def flush(self) -> None:
        if self.error is None:
            try:
                self._stream.flush()
            except (OSError, ValueError) as error:
                self._fail(error)

    def _fail(self, error: Exception) -> None:
        self.error = error
        with suppress(OSError, ValueError, AttributeError):  # flushing the buffer at exit must not fail again
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    @property
    def is_full(self) -> bool:
        """Whether output was lost. Output to a reader that has closed the pipe, such as `head`, does not count."""
        return self.error is not None and getattr(self.error, "errno", None) != errno.EPIPE

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class Interrupts:
    """Handler for Ctrl-C.

    ending: whether the command is already ending, so that further Ctrl-C is ignored. came: whether Ctrl-C was pressed.
    """

    def __init__(self) -> None:
        self.ending, self.came = False, False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.came = True
        if not self.ending:
            raise KeyboardInterrupt


@contextmanager
def guarded(*, for_good: bool) -> Iterator[tuple[Stream, Interrupts]]:
    """Guard standard output, standard error and Ctrl-C in the block. for_good: keep them guarded until the exit."""
    if for_good:
        for handle in range(3):  # a new file must not get the number of a closed standard stream
            try:
                os.fstat(handle)
            except OSError:
                os.open(os.devnull, os.O_RDWR)
    before, interrupts = (sys.stdout, sys.stderr), Interrupts()
    out, err = sys.stdout, sys.stderr = Stream(sys.stdout), Stream(sys.stderr)
    ours = (threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGINT) is signal.default_int_handler)
    if ours:
        signal.signal(signal.SIGINT, interrupts)
    try:
        yield out, interrupts
    finally:
        out.flush()
        err.flush()
        if ours:
            signal.signal(signal.SIGINT, signal.SIG_IGN if for_good else signal.default_int_handler)
        if not for_good:
            sys.stdout, sys.stderr = before
