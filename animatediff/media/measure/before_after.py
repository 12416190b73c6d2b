"""The temporal error of a clip before and after processing, both with the optical flow of the clip before."""
from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from animatediff.errors import MediaError
from animatediff.media.measure.temporal import TemporalError, TemporalMeter


class BeforeAfter:
    """Measures a clip while it is processed.

    own_frames: returns an iterator over the frames before, uint8 [h w 3] in playback order.
    """

    def __init__(self, own_frames: Callable[[], Iterator[np.ndarray]]):
        self._own_frames = own_frames
        self.before: TemporalError | None = None  # None until all frames have been watched
        self.after: TemporalError | None = None
        self.notes: list[str] = []

    def to_dict(self) -> dict[str, dict[str, float] | None]:
        return {"before": self.before and self.before.to_dict(), "after": self.after and self.after.to_dict()}

    def watched(self, frames: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """Measure the processed frames, uint8 or uint16 [h w 3] in playback order, and yield them unchanged."""
        try:
            before, after = TemporalMeter(), TemporalMeter()
        except MediaError as error:
            self.notes.append(f"the temporal error was not measured: {error}")
            yield from frames
            return
        own = self._own_frames()
        for frame in frames:
            yield frame
            if (reference := next(own, None)) is not None:
                before.add(reference)
                after.add(frame if frame.dtype.itemsize == 1 else (frame >> 8).astype("uint8"), reference)
        self.before, self.after = before.error, after.error
