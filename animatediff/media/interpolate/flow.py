"""Interpolation by optical flow without a network: OpenCV's DIS in both directions, with occlusion.

Each pixel's flow is moved along itself to the time of the new frame (forward splatting). If several arrive at a pixel,
those that agree in both directions have the largest weight. If none arrives, the flow is filled in from the
neighbourhood. The new frame then mixes both frames, sampled along this flow. If a pixel is hidden in one frame, only
the other is used. Where the search has failed, the frames are blended without motion.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from animatediff.media.optical_flow import Search, sample

NEIGHBOURS = (32, 4)  # sizes of the neighbourhoods, as divisors of the frame's longer side
_LEAST = 1e-3  # least weight of a pixel


@dataclass(frozen=True)
class _Carried:
    """The flow from one frame to the other."""

    flow: np.ndarray  # [h w 2] in pixels
    sure: np.ndarray  # certainty [h w], 0…1


class Flow:
    """Interpolates by optical flow. Needs OpenCV. Searches twice per pair of frames, for any number of new frames."""

    def __init__(self) -> None:
        self._search = Search()
        self._cv2 = self._search.cv2

    def between(self, a: np.ndarray, b: np.ndarray, times: Sequence[float]) -> list[np.ndarray]:
        there, back = self._search.flow(a, b), self._search.flow(b, a)
        ab = self._carried(there, self._certainty(a, b, there, back))
        ba = self._carried(back, self._certainty(b, a, back, there))
        return [self._at(a, b, ab, ba, np.float32(t)) for t in times]

    def _carried(self, flow: np.ndarray, sure: np.ndarray) -> _Carried:
        """Return the flow, with uncertain parts replaced by the certain flow around them."""
        known, weight = flow, sure
        for side in (max(flow.shape) // share | 1 for share in NEIGHBOURS):
            mass = self._cv2.blur(sure, (side, side))
            around = self._cv2.blur(flow * sure[..., None], (side, side)) / (mass + np.float32(1e-6))[..., None]
            more = (1 - weight) * np.minimum(mass * 8, 1)
            known = (known * weight[..., None] + around * more[..., None]) / (weight + more + 1e-6)[..., None]
            weight = weight + more
        return _Carried(known, sure)

    def _certainty(self, a: np.ndarray, b: np.ndarray, there: np.ndarray, back: np.ndarray) -> np.ndarray:
        """Return how certain the flow of each pixel of `a` is: forward and backward flow lead back, colours match."""
        returned = there + sample(back, there)
        astray = (returned**2).sum(2) / (0.5 + 0.05 * (there**2).sum(2))
        colour = np.abs(sample(b, there).astype(np.float32) - a).mean(2) / 24
        return np.exp(-astray - self._cv2.blur(colour**2, (3, 3)))

    def _at(self, a: np.ndarray, b: np.ndarray, ab: _Carried, ba: _Carried, t: np.float32) -> np.ndarray:
        shape = a.shape[:2]
        # Planes: weight, motion from a to b (x, y), and the shares visible only in a and only in b.
        total = np.zeros((5, *shape), np.float32)
        for carried, share, sign, near, only in ((ab, t, 1, 1 - t, 3), (ba, 1 - t, -1, t, 4)):
            weight = (carried.sure**2 + _LEAST) * (near + _LEAST)
            values = np.zeros((5, *shape), np.float32)
            values[0] = 1
            values[1:3] = sign * carried.flow.transpose(2, 0, 1)
            values[only] = 1 - carried.sure
            total += _splat(values * weight, carried.flow * share)
        motion, only_a, only_b = self._filled(total)
        near, far = (sample(picture, way * motion).astype(np.float32) for picture, way in ((a, -t), (b, 1 - t)))
        weight_a, weight_b = (1 - t) * (1 - only_b) + 1e-4, t * (1 - only_a) + 1e-4
        mixed = (near * weight_a[..., None] + far * weight_b[..., None]) / (weight_a + weight_b)[..., None]
        # The search has failed where unmatched pixels of both frames arrive at the same place: blend there.
        failed = self._cv2.blur(np.maximum(8 * only_a * only_b - 1, 0), (5, 5))[..., None]
        return np.rint(mixed + (a + (b.astype(np.float32) - a) * t - mixed) * failed).clip(0, 255).astype(np.uint8)

    def _filled(self, total: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return motion and occlusion at each pixel, filled in from the neighbourhood if nothing has arrived."""
        planes, size = total.transpose(1, 2, 0), 3
        known = planes[..., 0] > 0.25 * _LEAST
        found = np.where(known[..., None], planes, 0)
        longest = max(total.shape[1:])
        while not known.all() and size < 2 * longest:
            around = self._cv2.blur(np.ascontiguousarray(found), (size, size), borderType=self._cv2.BORDER_REPLICATE)
            fill = ~known & (around[..., 0] > 1e-9)
            found = np.where(fill[..., None], around, found)
            known, size = known | fill, 2 * size + 1
        mass = np.maximum(found[..., 0], 1e-12)
        return found[..., 1:3] / mass[..., None], found[..., 3] / mass, found[..., 4] / mass


def _splat(values: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """Return `values` [c h w] moved by `offset` [h w 2]. Each pixel is distributed over the four nearest ones."""
    channels, height, width = values.shape
    x = np.arange(width, dtype=np.float32)[None] + offset[..., 0]
    y = np.arange(height, dtype=np.float32)[:, None] + offset[..., 1]
    left, top = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    right, low = x - left, y - top
    result = np.zeros((channels, height * width), np.float64)
    for dx, dy, weight in ((0, 0, (1 - right) * (1 - low)), (1, 0, right * (1 - low)),
                           (0, 1, (1 - right) * low), (1, 1, right * low)):
        column, row = left + dx, top + dy
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        place, share = (row * width + column)[inside], weight[inside]
        for channel, plane in zip(result, values):
            channel += np.bincount(place, plane[inside] * share, height * width)
    return result.reshape(channels, height, width).astype(np.float32)
