"""How well a clip's last frame leads to its first, measured on the frames as they come."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LEAST_STEP = 0.25  # of 255; smaller steps are the rounding of pixels, not motion
FEWEST = 3  # frames; with two, the way back is the way there
SMOOTH, SEEN = 1.5, 2.0  # scores up to which the seam is not seen, and from which it is


@dataclass(frozen=True)
class LoopScore:
    """Mean absolute differences in pixels, of 255: `seam` from the last frame to the first, `step` the median from a
    frame to the next."""

    seam: float
    step: float

    @property
    def value(self) -> float:
        """How many steps wide the seam is: about 1 where it is a place like any other."""
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
    """Takes a clip's frames one by one, in the order of playback. Holds two of them."""

    def __init__(self) -> None:
        self._first: np.ndarray | None = None
        self._before: np.ndarray | None = None
        self._steps: list[float] = []

    def add(self, frame: np.ndarray) -> None:
        """The next frame, uint8 [h w 3]."""
        if self._before is None:
            self._first = frame
        else:
            self._steps.append(_difference(self._before, frame))
        self._before = frame

    @property
    def score(self) -> LoopScore | None:
        """Of the frames so far; None where they are too few."""
        if self._before is None or self._first is None or len(self._steps) + 1 < FEWEST:
            return None
        return LoopScore(_difference(self._before, self._first), float(np.median(self._steps)))


def _difference(a: np.ndarray, b: np.ndarray) -> float:
    return float((np.maximum(a, b) - np.minimum(a, b)).mean())  # uint8 does not wrap this way
