"""A clip's frames in, the frames of another rate out, one by one. Three frames are held, however long the clip is."""
from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import numpy as np

from animatediff.media.interpolate import cuts, plan
from animatediff.media.interpolate.registry import Method


class Stream:
    """Frames uint8 [h w 3] of one size, pushed in the order of playback.

    The clip's own frames come out as they are, where one is due at their time. A frame is held where the next one is
    equal to it, or stands behind a cut; `held`: how many cuts. closed: behind the last frame comes the first again.
    """

    def __init__(self, method: Method, rate: Fraction, *, closed: bool = False):
        self.method, self.rate, self.closed, self.held = method, rate, closed, 0
        self._first: np.ndarray | None = None
        self._last: np.ndarray | None = None
        self._begin = self._end = Fraction(0)  # of the last frame
        self._cuts = cuts.Finder()

    def push(self, frame: np.ndarray, seconds: Fraction) -> Iterator[np.ndarray]:
        """What is due before this frame, which is shown for `seconds`, and the frame where it is due itself."""
        if self._last is None:
            self._first = frame
        else:
            yield from self._between(self._last, frame)
        self._last, self._begin, self._end = frame, self._end, self._end + seconds
        if 0 in plan.due(self._begin, self._end, self.rate):
            yield frame

    def finish(self) -> Iterator[np.ndarray]:
        """What is due behind the last frame."""
        if self._last is not None and self._first is not None:
            yield from self._between(self._last, self._first if self.closed else self._last)

    def _between(self, a: np.ndarray, b: np.ndarray) -> Iterator[np.ndarray]:
        times = [float(t) for t in plan.due(self._begin, self._end, self.rate) if t]
        same = np.array_equal(a, b)
        cut = not same and self._cuts.is_cut(a, b)
        self.held += cut
        if same or cut:
            yield from [a] * len(times)
        elif times and a.tobytes() > b.tobytes():
            # The same two frames have the same frames between them forth and back, so that ping-pong stays what it is.
            yield from self.method.between(b, a, [1 - t for t in times])
        elif times:
            yield from self.method.between(a, b, times)

    @property
    def notes(self) -> list[str]:
        return [f"cuts found: {self.held}; frames are held over them, not interpolated"] if self.held else []
