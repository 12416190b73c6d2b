"""The interpolation methods. To add one, write a class that implements `Method` and add it to METHODS."""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from animatediff.media.interpolate.blend import Blend
from animatediff.media.interpolate.film import Film
from animatediff.media.interpolate.flow import Flow
from animatediff.media.interpolate.rife import Rife


class Method(Protocol):
    """Makes new frames between two frames."""

    def between(self, a: np.ndarray, b: np.ndarray, times: Sequence[float]) -> list[np.ndarray]:
        """Return new frames between two frames, uint8 [h w 3]. times: shares of the interval, between 0 and 1."""
        ...


# Each factory takes the tensors of a model file and a device, which only networks use.
METHODS: dict[str, Callable[[Mapping[str, Any], str], Method]] = {
    "flow": lambda tensors, device: Flow(),
    "RIFE": Rife,
    "FILM": Film,
    "blend": lambda tensors, device: Blend(),
}
