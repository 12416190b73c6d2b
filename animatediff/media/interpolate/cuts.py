"""Cut detection: a cut is between two frames with few similar places, even within a small distance."""
from __future__ import annotations

from collections import deque

import numpy as np
from PIL import Image

SIDE = 32  # pixels of the longer side at which frames are compared
REACH = 4  # search distance in every direction, in pixels at size SIDE
UNLIKE = 24.0  # of 255: a place whose best match differs by more counts as not found
CERTAIN = 0.3  # share of places not found that is always a cut
# A share above LEAST is a cut as well if it is STANDING_OUT times that of each of the last MEMORY steps.
LEAST, STANDING_OUT, MEMORY = 0.06, 5, 4


def unlikeness(a: np.ndarray, b: np.ndarray) -> float:
    """Return the share of places in each frame that are not found in the other, 0…1."""
    small = [_small(frame) for frame in (a, b)]
    return float(np.mean([_lost(*small), _lost(*reversed(small))]))


def _small(frame: np.ndarray) -> np.ndarray:
    height, width = frame.shape[:2]
    factor = min(1.0, SIDE / max(height, width))
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BOX), np.float32)


def _lost(a: np.ndarray, b: np.ndarray) -> float:
    height, width = a.shape[:2]
    wide = np.pad(b, ((REACH, REACH), (REACH, REACH), (0, 0)), mode="edge")
    best = np.full((height, width), np.inf, np.float32)
    for top in range(2 * REACH + 1):
        for left in range(2 * REACH + 1):
            off = np.abs(a - wide[top:top + height, left:left + width]).max(2)
            np.minimum(best, _averaged(off), out=best)
    return float((best > UNLIKE).mean())


def _averaged(plane: np.ndarray) -> np.ndarray:
    """Return the mean of each place and its eight neighbours."""
    wide = np.pad(plane, 1, mode="edge")
    rows = wide[:-2] + wide[1:-1] + wide[2:]
    return (rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]) / 9


class Finder:
    """Finds the cuts of a clip.

    Call `is_cut` for all pairs of neighbouring frames in playback order, since a step is also compared with the
    previous ones.
    """

    def __init__(self) -> None:
        self._before: deque[float] = deque(maxlen=MEMORY)

    def is_cut(self, a: np.ndarray, b: np.ndarray) -> bool:
        found = unlikeness(a, b)
        usual = max(self._before, default=1.0) + 0.005
        cut = found > CERTAIN or found > max(LEAST, STANDING_OUT * usual)
        if not cut:
            self._before.append(found)
        return cut
