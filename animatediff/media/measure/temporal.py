"""Temporal error: difference of neighbouring frames after motion compensation (warping error, arXiv:1808.00449).

Each frame is warped to the previous one along the optical flow, and compared with it. Pixels that are hidden in one of
the two frames are left out. A pixel counts as hidden if forward and backward flow do not lead back to it, by the rule
of Sundaram et al. 2010 (|f + b|² ≤ 0.01·(|f|² + |b|²) + 0.5), or if it leaves the frame. Cuts are left out as well.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from animatediff.media.interpolate.cuts import Finder
from animatediff.media.optical_flow import Search, sample

MOST = 100.0  # largest PSNR in decibels, for identical frames
FOUND = 0.5  # share of pixels visible in both frames from which on there is no cut


@dataclass(frozen=True)
class TemporalError:
    """The difference between a frame and the next frame warped to it, over the clip."""

    difference: float  # mean absolute difference, of 255
    psnr: float  # peak signal-to-noise ratio in decibels
    compared: float  # share of the pixels that were compared

    def to_dict(self) -> dict[str, float]:
        return {"difference": round(self.difference, 3), "psnr": round(self.psnr, 2),
                "compared": round(self.compared, 3)}

    def __str__(self) -> str:
        return f"{self.difference:.2f} of 255 ({self.psnr:.1f} dB)"


# Callback with a frame, the next frame warped to it (float32), and a mask of the pixels visible in both.
OnPair = Callable[[np.ndarray, np.ndarray, np.ndarray], None]


class TemporalMeter:
    """Measures a clip's frames one by one. Holds two of them. Needs OpenCV.

    on_pair: called for every two neighbouring frames. Across a cut, its mask is empty.
    """

    def __init__(self, on_pair: OnPair | None = None) -> None:
        self._on_pair = on_pair
        self._search, self._cuts = Search(), Finder()
        self._before: tuple[np.ndarray, np.ndarray] | None = None
        self._absolute = self._squared = 0.0
        self._compared = self._all = 0

    def add(self, frame: np.ndarray, reference: np.ndarray | None = None) -> None:
        """Add the next frame, uint8 [h w 3].

        reference: the corresponding frame of another clip, of any size, from which the optical flow is computed.
        """
        now = frame, frame if reference is None else reference
        if self._before is not None:
            self._compare(self._before, now)
        self._before = now

    @property
    def error(self) -> TemporalError | None:
        """Temporal error of the frames so far, or None if nothing could be compared."""
        if not self._compared:
            return None
        mean, square = self._absolute / self._compared, self._squared / self._compared
        psnr = min(MOST, 10 * float(np.log10(255**2 / max(square, 1e-12))))
        return TemporalError(mean, psnr, self._compared / self._all)

    def _compare(self, before: tuple[np.ndarray, np.ndarray], now: tuple[np.ndarray, np.ndarray]) -> None:
        (frame, a), (following, b) = before, now
        flow, seen = self._flow(a, b)
        if self._cuts.is_cut(a, b) and seen.mean() < FOUND:  # the finder mistakes moving fine patterns for cuts
            if self._on_pair:
                self._on_pair(frame, frame.astype(np.float32), np.zeros(frame.shape[:2], bool))
            return
        if a.shape != frame.shape:
            cv2, (height, width) = self._search.cv2, frame.shape[:2]
            factors = np.array([width / a.shape[1], height / a.shape[0]], np.float32)
            flow = cv2.resize(flow, (width, height), interpolation=cv2.INTER_LINEAR) * factors
            seen = cv2.resize(seen.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST) > 0
        warped = sample(following.astype(np.float32), flow)
        if self._on_pair:
            self._on_pair(frame, warped, seen)
        off = (warped - frame)[seen].astype(np.float64)
        self._absolute += float(np.abs(off).sum()) / 3
        self._squared += float((off**2).sum()) / 3
        self._compared += int(seen.sum())
        self._all += seen.size

    def _flow(self, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the flow from a to b, and a mask of the pixels of a that are visible in b."""
        if np.array_equal(a, b):
            return np.zeros((*a.shape[:2], 2), np.float32), np.ones(a.shape[:2], bool)
        there, back = self._search.flow(a, b), self._search.flow(b, a)
        returning = sample(back, there)
        astray = ((there + returning) ** 2).sum(2)
        seen = astray <= 0.01 * ((there**2).sum(2) + (returning**2).sum(2)) + 0.5
        height, width = a.shape[:2]
        x = np.arange(width)[None] + there[..., 0]
        y = np.arange(height)[:, None] + there[..., 1]
        return there, seen & (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
