"""Loop score: how well a clip's last frame leads to its first."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LEAST_STEP = 0.25  # of 255; smaller steps come from rounding of pixels, not from motion
FEWEST = 3  # least number of frames; with two, the seam equals the only step
SMOOTH, SEEN = 1.5, 2.0  # score up to which the seam is invisible, and score from which it is visible


@dataclass(frozen=True)
class LoopScore:
    """Mean absolute pixel differences between frames, of 255."""

    seam: float  # from the last frame to the first
    step: float  # from a frame to the next, the median

    @property
    def value(self) -> float:
        """Ratio of seam to step. It is about 1 for a perfect loop."""
        return self.seam / max(self.step, LEAST_STEP)

    def to_dict(self) -> dict[str, float]:
        return {"score": round(self.value, 3), "seam": round(self.seam, 3), "step": round(self.step, 3)}

    def __str__(self) -> str:
        return f"{self.value:.2f} (seam {self.seam:.2f}, median step {self.step:.2f}): {self.verdict}"

    @property
    def verdict(self) -> str:
        if self.value <= SMOOTH:
            return f"good, up to {SMOOTH:g} the seam is not seen"
        return f"the seam may be seen, up to {SMOOTH:g} is good" if self.value < SEEN else \
            f"the seam is seen, up to {SMOOTH:g} is good"


class LoopMeter:
    """Measures a clip's frames one by one, in playback order. Holds two of them."""

    def __init__(self) -> None:
        self._first: np.ndarray | None = None
        self._before: np.ndarray | None = None
        self._steps: list[float] = []

    def add(self, frame: np.ndarray) -> None:
        """Add the next frame, uint8 [h w 3]."""
        if self._before is None:
            self._first = frame
        else:
            self._steps.append(_difference(self._before, frame))
        self._before = frame

    @property
    def score(self) -> LoopScore | None:
        """Score of the frames so far, or None if they are too few."""
        if self._before is None or self._first is None or len(self._steps) + 1 < FEWEST:
            return None
        return LoopScore(_difference(self._before, self._first), float(np.median(self._steps)))


def _difference(a: np.ndarray, b: np.ndarray) -> float:
    return float((np.maximum(a, b) - np.minimum(a, b)).mean())  # uint8 subtraction cannot wrap around here
