"""Optical flow without a network: OpenCV's DIS, from each frame to the other, with occlusion.

Each pixel of both frames is carried along its flow to the time between (forward splatting). Where several arrive, those
that both directions agree on count most; where none arrives, the flow is filled in from around. There the frames are
looked up: both, or only the one that has the pixel, where it is hidden in the other. Where the search has failed, the
frames are blended.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from animatediff.media.optical_flow import Search, sample

NEIGHBOURS = (32, 4)  # shares of the longer side: how far around
_LEAST = 1e-3  # weight of a pixel that nothing speaks for


@dataclass(frozen=True)
class _Carried:
    """A frame's flow to the other [h w 2] in pixels, and how sure it is [h w], 0…1."""

    flow: np.ndarray
    sure: np.ndarray


class Flow:
    """Needs OpenCV. Two searches for each pair of frames, whatever the number between."""

    def __init__(self) -> None:
        self._search = Search()
        self._cv2 = self._search.cv2

    def between(self, a: np.ndarray, b: np.ndarray, times: Sequence[float]) -> list[np.ndarray]:
        there, back = self._search.flow(a, b), self._search.flow(b, a)
        ab = self._carried(there, self._certainty(a, b, there, back))
        ba = self._carried(back, self._certainty(b, a, back, there))
        return [self._at(a, b, ab, ba, np.float32(t)) for t in times]

    def _carried(self, flow: np.ndarray, sure: np.ndarray) -> _Carried:
        """Where the flow is not sure, it goes on as the sure one around it, near or far."""
        known, weight = flow, sure
        for side in (max(flow.shape) // share | 1 for share in NEIGHBOURS):
            mass = self._cv2.blur(sure, (side, side))
            around = self._cv2.blur(flow * sure[..., None], (side, side)) / (mass + np.float32(1e-6))[..., None]
            more = (1 - weight) * np.minimum(mass * 8, 1)
            known = (known * weight[..., None] + around * more[..., None]) / (weight + more + 1e-6)[..., None]
            weight = weight + more
        return _Carried(known, sure)

    def _certainty(self, a: np.ndarray, b: np.ndarray, there: np.ndarray, back: np.ndarray) -> np.ndarray:
        """How far each pixel of `a` is found again in `b`: there and back ends where it began, on the same colour."""
        returned = there + sample(back, there)
        astray = (returned**2).sum(2) / (0.5 + 0.05 * (there**2).sum(2))
        colour = np.abs(sample(b, there).astype(np.float32) - a).mean(2) / 24
        return np.exp(-astray - self._cv2.blur(colour**2, (3, 3)))

    def _at(self, a: np.ndarray, b: np.ndarray, ab: _Carried, ba: _Carried, t: np.float32) -> np.ndarray:
        shape = a.shape[:2]
        # Mass, motion from a to b, and how much of it a alone and b alone know.
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
        # Pixels of both that are not found in the other meet where the search has failed: there the frames are blended.
        failed = self._cv2.blur(np.maximum(8 * only_a * only_b - 1, 0), (5, 5))[..., None]
        return np.rint(mixed + (a + (b.astype(np.float32) - a) * t - mixed) * failed).clip(0, 255).astype(np.uint8)

    def _filled(self, total: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Motion and occlusion at each pixel; where nothing has arrived, as around it."""
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
    """`values` [c h w] moved by `offset` [h w 2]: each pixel is shared out over the four that it falls between."""
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
