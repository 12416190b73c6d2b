"""Compute a palette of 256 colours for a clip: histogram of all pixels, variance splitting, Lloyd's iterations."""
from __future__ import annotations

import numpy as np

SIZE = 256
_BITS = 5  # per channel in the histogram
_SHIFT = 8 - _BITS


class Histogram:
    """Colours of all added frames in constant memory: sums in 32 768 boxes, and up to 256 exact colours."""

    def __init__(self) -> None:
        self.counts = np.zeros(1 << 3 * _BITS)
        self.sums = np.zeros((3, 1 << 3 * _BITS))
        self.exact: np.ndarray | None = np.empty(0, np.int32)  # 0xRRGGBB, sorted; None if there are more than 256

    def add(self, frame: np.ndarray) -> None:
        """Count the pixels of a frame, uint8 [h w 3]."""
        pixels = frame.reshape(-1, 3)
        box = packed(pixels >> _SHIFT, _BITS)
        boxes = len(self.counts)
        self.counts += np.bincount(box, minlength=boxes)
        for channel in range(3):
            self.sums[channel] += np.bincount(box, pixels[:, channel], minlength=boxes)
        if self.exact is not None:
            both = np.union1d(self.exact, packed(pixels))
            self.exact = both if len(both) <= SIZE else None

    def palette(self) -> np.ndarray:
        """Return at most 256 colours, uint8 [n 3]: the exact colours if there are no more."""
        if self.exact is not None:
            return np.stack([self.exact >> 16, self.exact >> 8 & 255, self.exact & 255], axis=1).astype(np.uint8)
        used = self.counts > 0
        weights = self.counts[used]
        points = (self.sums[:, used] / weights).T
        return np.unique(np.rint(_lloyd(points, weights, _split(points, weights))).astype(np.uint8), axis=0)


def packed(pixels: np.ndarray, bits: int = 8) -> np.ndarray:
    """Return one integer for each colour [... 3]."""
    wide = pixels.astype(np.int32)
    return wide[..., 0] << 2 * bits | wide[..., 1] << bits | wide[..., 2]


def _split(points: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the means of 256 groups.

    The group with the largest squared error is split at its mean, along the axis of largest error, until there are 256.
    """
    def described(rows: np.ndarray) -> tuple[float, int, float, np.ndarray]:
        w = weights[rows, None]
        mean = (points[rows] * w).sum(0) / w.sum()
        error = ((points[rows] - mean) ** 2 * w).sum(0)
        axis = int(error.argmax())
        return float(error.sum()), axis, float(mean[axis]), mean

    groups = [np.arange(len(points))]
    facts = [described(groups[0])]
    while len(groups) < SIZE:
        worst = max(range(len(groups)), key=lambda i: facts[i][0])
        error, axis, at, _ = facts[worst]
        rows = groups[worst]
        below = points[rows, axis] < at
        if error <= 0 or below.all() or not below.any():
            break
        groups[worst], facts[worst] = rows[below], described(rows[below])
        groups.append(rows[~below])
        facts.append(described(rows[~below]))
    return np.stack([mean for *_, mean in facts])


def _lloyd(points: np.ndarray, weights: np.ndarray, centres: np.ndarray, rounds: int = 6) -> np.ndarray:
    """Return the centres after weighted k-means. A centre without points keeps its place."""
    for _ in range(rounds):
        lengths = (centres ** 2).sum(1)
        # |centre|² - 2 point·centre; |point|² is the same for every centre. In slices, to limit memory.
        nearest = np.concatenate([(lengths - 2 * points[at:at + 2048] @ centres.T).argmin(1)
                                  for at in range(0, len(points), 2048)])
        mass = np.bincount(nearest, weights, minlength=len(centres))
        sums = np.stack([np.bincount(nearest, weights * points[:, c], minlength=len(centres)) for c in range(3)], 1)
        centres = np.where(mass[:, None] > 0, sums / np.maximum(mass, 1e-12)[:, None], centres)
    return centres
