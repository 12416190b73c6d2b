"""Blending: each frame between is a mix of both. The plainest method, to compare others with."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class Blend:
    """Needs nothing. What moves is seen twice."""

    def between(self, a: np.ndarray, b: np.ndarray, times: Sequence[float]) -> list[np.ndarray]:
        return [np.rint(a + (b.astype(np.float32) - a) * np.float32(t)).astype(np.uint8) for t in times]
