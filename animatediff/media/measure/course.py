"""The course of brightness and colour in a clip, where the picture shows the same.

Every frame is compared with the next one warped to it along the optical flow (`temporal`), in cells of the frame. The
changes of a cell are summed up over the frames, so that motion alone changes nothing.
"""
from __future__ import annotations

import numpy as np

from animatediff.media.measure import lab

CELLS = 8  # in a row and in a column
FEWEST = 0.1  # share of a cell's pixels that are seen in both frames, below which it counts as unchanged
MOST_PIXELS = 2**16  # of a frame that are looked at, evenly spread
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
BRIGHTNESS, LAB = 0, slice(1, 4)  # channels: luma of 255, and L*, a*, b*


class Course:
    """`add` is what a TemporalMeter calls for every two frames. Holds four numbers of each cell and frame."""

    def __init__(self) -> None:
        self._changes: list[np.ndarray] = []

    def add(self, frame: np.ndarray, warped: np.ndarray, seen: np.ndarray) -> None:
        some = evenly(*seen.shape)
        after = np.rint(warped[some]).clip(0, 255).astype(np.uint8)
        change = np.concatenate(((warped[some] - frame[some]) @ LUMA[:, None],
                                 lab.of_srgb(after) - lab.of_srgb(frame[some])), -1)
        self._changes.append(_in_cells(change, seen[some]))

    @property
    def values(self) -> np.ndarray:
        """[frames cells channels], 0 in the first frame. Without frames, if none could be compared."""
        if not self._changes:
            return np.zeros((0, CELLS**2, 4))
        return np.cumsum([np.zeros_like(self._changes[0]), *self._changes], 0)


def evenly(height: int, width: int) -> tuple[slice, slice]:
    """Rows and columns of a grid over a frame, of about MOST_PIXELS pixels at most."""
    step = max(1, round((height * width / MOST_PIXELS) ** 0.5))
    return slice(step // 2, None, step), slice(step // 2, None, step)


def _in_cells(change: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """The mean change of each cell [cells channels]; of few pixels, 0."""
    height, width = seen.shape
    cell = (np.arange(height) * CELLS // height)[:, None] * CELLS + np.arange(width) * CELLS // width
    whole = np.bincount(cell.ravel(), minlength=CELLS**2)
    count = np.bincount(cell[seen], minlength=CELLS**2)
    sums = np.stack([np.bincount(cell[seen], plane[seen], CELLS**2) for plane in np.moveaxis(change, -1, 0)], -1)
    enough = count > FEWEST * np.maximum(whole, 1)
    return np.where(enough[:, None], sums / np.maximum(count, 1)[:, None], 0)
