"""Weights for fusing overlapping windows: out = Σ w·x / Σ w over the windows of a frame.

A weight depends on the frame's place in its window. It is at least LEAST, which half precision can represent. So a
frame in a single window keeps its value exactly, even at the window's edge.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence

from animatediff.errors import SettingsError, quoted
from animatediff.windows import Window, resolved_overlap, wraps

LEAST = 1e-3


def weights(window: Window, method: str, *, frames: int, overlap: int) -> list[float]:
    """Return a weight > 0 for each frame of the window.

    method: a name in METHODS. frames: number of frames in the clip. overlap: in frames; -1 is a quarter of the window.
    Raise SettingsError for an unknown method.
    """
    if method not in METHODS:
        raise SettingsError(f"{quoted(method)} is unknown", where="fuse_method",
                            remedy=f"Use one of {', '.join(METHODS)}.")
    return METHODS[method](window, frames, resolved_overlap(overlap, len(window)))


def shares(windows: Sequence[Window], method: str, *, frames: int, overlap: int) -> list[list[float]]:
    """Return w / Σ w for each frame of each window. The shares of a frame sum to 1 over all windows."""
    raw = [weights(window, method, frames=frames, overlap=overlap) for window in windows]
    sums = [0.0] * frames
    for window, row in zip(windows, raw):
        for frame, weight in zip(window, row):
            sums[frame] += weight
    return [[weight / sums[frame] for frame, weight in zip(window, row)] for window, row in zip(windows, raw)]


def _flat(window: Window, frames: int, overlap: int) -> list[float]:
    """Equal weights: the mean over a frame's windows."""
    return [1.0] * len(window)


def _pyramid(window: Window, frames: int, overlap: int) -> list[float]:
    """1 at the edges, increasing by 1 per frame to the middle (FreeNoise, arXiv:2310.15169): 1 2 2 1, 1 2 3 2 1."""
    n = len(window)
    return [float(min(i + 1, n - i)) for i in range(n)]


def _overlap_linear(window: Window, frames: int, overlap: int) -> list[float]:
    """Linear ramps over the overlap at both ends, except at the clip's first and last frame.

    A window that wraps holds these two frames in its middle, so it has both ramps. If ramps overlap, the smaller weight
    counts.
    """
    n = len(window)
    ramp = [LEAST + (1 - LEAST) * i / (overlap - 1) for i in range(overlap)] if overlap > 1 else [LEAST] * overlap
    row = [1.0] * n
    for i, weight in enumerate(ramp[:n]):
        if wraps(window) or 0 not in window:
            row[i] = min(row[i], weight)
        if wraps(window) or frames - 1 not in window:
            row[n - 1 - i] = min(row[n - 1 - i], weight)
    return row


def _relative(window: Window, frames: int, overlap: int) -> list[float]:
    """1 minus the distance from the window's middle, divided by half the distance between its ends; at least 0.01."""
    n = len(window)
    middle, half = (n - 1) / 2, (n - 1 + 0.01) / 2
    return [max(0.01, 1 - abs(i - middle) / half) for i in range(n)]


METHODS: dict[str, Callable[[Window, int, int], list[float]]] = {
    "flat": _flat,
    "pyramid": _pyramid,
    "overlap-linear": _overlap_linear,
    "relative": _relative,
}
