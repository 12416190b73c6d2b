"""Blending: each new frame is a mix of its two neighbours. The simplest method, as a baseline for others."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class Blend:
    """Mixes two frames. Needs no package and no model. Moving objects appear twice."""

    def between(self, a: np.ndarray, b: np.ndarray, times: Sequence[float]) -> list[np.ndarray]:
        return [np.rint(a + (b.astype(np.float32) - a) * np.float32(t)).astype(np.uint8) for t in times]
