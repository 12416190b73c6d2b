"""The methods of interpolation. A new one is a class with what `Method` names, and an entry in METHODS."""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from animatediff.media.interpolate.blend import Blend
from animatediff.media.interpolate.flow import Flow
from animatediff.media.interpolate.rife import Rife


class Method(Protocol):
    """Makes what lies between two frames."""

    def between(self, a: np.ndarray, b: np.ndarray, times: Sequence[float]) -> list[np.ndarray]:
        """What is seen between two frames, uint8 [h w 3], at shares of the way, each more than 0 and less than 1."""
        ...


# Made by tensors and device, which only networks want.
METHODS: dict[str, Callable[[Mapping[str, Any], str], Method]] = {
    "flow": lambda tensors, device: Flow(),
    "RIFE": Rife,
    "blend": lambda tensors, device: Blend(),
}
