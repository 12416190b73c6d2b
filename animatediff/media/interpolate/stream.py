"""Convert a clip's frames to another rate one by one. Three frames are held, for any length of the clip."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction

import numpy as np

from animatediff.media.interpolate import cuts, plan
from animatediff.media.interpolate.registry import Method


class Stream:
    """Interpolates frames, uint8 [h w 3] of one size, that are pushed in playback order.

    Original frames are unchanged if an output frame is due at their time. A frame is repeated, not interpolated, if the
    next one is equal or comes after a cut.
    rate: output frames per second.
    closed: whether the first frame follows the last one.
    held: number of cuts found.
    notes: further notes for people.
    """

    def __init__(self, method: Method, rate: Fraction, *, closed: bool = False, notes: Sequence[str] = ()):
        self.method, self.rate, self.closed, self.held, self._notes = method, rate, closed, 0, notes
        self._first: np.ndarray | None = None
        self._last: np.ndarray | None = None
        self._begin = self._end = Fraction(0)  # start and end time of the last frame
        self._cuts = cuts.Finder()

    def push(self, frame: np.ndarray, seconds: Fraction) -> Iterator[np.ndarray]:
        """Yield the output frames before this frame, and the frame itself if one is due at its time.

        seconds: duration of the frame.
        """
        if self._last is None:
            self._first = frame
        else:
            yield from self._between(self._last, frame)
        self._last, self._begin, self._end = frame, self._end, self._end + seconds
        if 0 in plan.due(self._begin, self._end, self.rate):
            yield frame

    def finish(self) -> Iterator[np.ndarray]:
        """Yield the output frames after the last frame."""
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
            # Order the frames, so that results are the same in both directions and ping-pong clips stay symmetric.
            yield from self.method.between(b, a, [1 - t for t in times])
        elif times:
            yield from self.method.between(a, b, times)

    @property
    def notes(self) -> list[str]:
        cuts = f"cuts found: {self.held}; frames are held over them, not interpolated"
        return [*self._notes, *([cuts] if self.held else [])]
