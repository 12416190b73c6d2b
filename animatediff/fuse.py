"""How overlapping windows are joined: out = Σ w·x / Σ w over the windows that hold a frame.

Weights depend on a frame's place in its window. All are at least `LEAST`, which half precision can hold, so that
a frame that only one window holds, at its very edge, keeps its value exactly.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence

from animatediff.errors import SettingsError, quoted
from animatediff.windows import Window, resolved_overlap, wraps

LEAST = 1e-3


def weights(window: Window, method: str, *, frames: int, overlap: int) -> list[float]:
    """One weight > 0 for each frame of the window. overlap: frames, -1 is a quarter of the window."""
    if method not in METHODS:
        raise SettingsError(f"{quoted(method)} is unknown", where="fuse_method",
                            remedy=f"Use one of {', '.join(METHODS)}.")
    return METHODS[method](window, frames, resolved_overlap(overlap, len(window)))


def shares(windows: Sequence[Window], method: str, *, frames: int, overlap: int) -> list[list[float]]:
    """w / Σ w: how much each window gives to each of its frames. A frame's shares sum to one over all windows."""
    raw = [weights(window, method, frames=frames, overlap=overlap) for window in windows]
    sums = [0.0] * frames
    for window, row in zip(windows, raw):
        for frame, weight in zip(window, row):
            sums[frame] += weight
    return [[weight / sums[frame] for frame, weight in zip(window, row)] for window, row in zip(windows, raw)]


def _flat(window: Window, frames: int, overlap: int) -> list[float]:
    """The plain mean of the windows that hold a frame."""
    return [1.0] * len(window)


def _pyramid(window: Window, frames: int, overlap: int) -> list[float]:
    """1 at the edges, rising by one per frame to the middle (FreeNoise, arXiv:2310.15169): 1 2 2 1, 1 2 3 2 1."""
    n = len(window)
    return [float(min(i + 1, n - i)) for i in range(n)]


def _overlap_linear(window: Window, frames: int, overlap: int) -> list[float]:
    """Ramps over the overlap at both ends, none where the clip itself begins or ends and nothing can be blended.

    A window that wraps holds the clip's first and last frame in its middle; its ends lie inside the clip and are
    ramped. Where two ramps meet the smaller weight counts.
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
    """One less the distance from the window's middle, over half the distance between its ends; at least 0.01."""
    n = len(window)
    middle, half = (n - 1) / 2, (n - 1 + 0.01) / 2
    return [max(0.01, 1 - abs(i - middle) / half) for i in range(n)]


METHODS: dict[str, Callable[[Window, int, int], list[float]]] = {
    "flat": _flat,
    "pyramid": _pyramid,
    "overlap-linear": _overlap_linear,
    "relative": _relative,
}
