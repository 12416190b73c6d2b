"""The change of brightness and colour over a clip, without the influence of motion.

Each frame is compared with the next frame, warped to it along the optical flow (`temporal`), in cells of the frame.
The changes of each cell are accumulated over the frames.
"""
from __future__ import annotations

import numpy as np

from animatediff.media.measure import lab

CELLS = 8  # cells per row and column
FEWEST = 0.1  # a cell counts as unchanged if fewer than this share of its pixels are visible in both frames
MOST_PIXELS = 2**16  # pixels of a frame that are used, evenly spaced
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
BRIGHTNESS, LAB = 0, slice(1, 4)  # channels: luma (0…255), and L*, a*, b*


class Course:
    """Accumulates the changes. `add` is the callback of a TemporalMeter. Holds four numbers per cell and frame."""

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
        """Accumulated changes [frames cells channels], 0 in the first frame. Empty if no frames could be compared."""
        if not self._changes:
            return np.zeros((0, CELLS**2, 4))
        return np.cumsum([np.zeros_like(self._changes[0]), *self._changes], 0)


def evenly(height: int, width: int) -> tuple[slice, slice]:
    """Return slices of rows and columns that select at most about MOST_PIXELS evenly spaced pixels of a frame."""
    step = max(1, round((height * width / MOST_PIXELS) ** 0.5))
    return slice(step // 2, None, step), slice(step // 2, None, step)


def _in_cells(change: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Return the mean change of each cell [cells channels], and 0 for cells with too few visible pixels."""
    height, width = seen.shape
    cell = (np.arange(height) * CELLS // height)[:, None] * CELLS + np.arange(width) * CELLS // width
    whole = np.bincount(cell.ravel(), minlength=CELLS**2)
    count = np.bincount(cell[seen], minlength=CELLS**2)
    sums = np.stack([np.bincount(cell[seen], plane[seen], CELLS**2) for plane in np.moveaxis(change, -1, 0)], -1)
    enough = count > FEWEST * np.maximum(whole, 1)
    return np.where(enough[:, None], sums / np.maximum(count, 1)[:, None], 0)
