"""Detect whether weights have changed since something was computed from them."""
from __future__ import annotations

import weakref
from collections.abc import Iterable

from torch import Tensor


class Unchanged:
    """Holds weak references to weights, with their state at the time of creation."""

    def __init__(self, weights: Iterable[Tensor]):
        self._weights = [(weakref.ref(weight), _state(weight)) for weight in weights]

    def __call__(self, weights: Iterable[Tensor]) -> bool:
        """Return whether `weights` are the same tensors and have not been written to since."""
        weights = list(weights)
        return len(weights) == len(self._weights) and all(
            kept() is weight and written == _state(weight) for (kept, written), weight in zip(self._weights, weights))


def _state(weight: Tensor) -> tuple[int, int]:
    """Return values that change when the tensor is moved or written to."""
    return weight.data_ptr(), 0 if weight.is_inference() else weight._version
