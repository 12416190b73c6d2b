"""Whether weights still are what something was made of."""
from __future__ import annotations

import weakref
from collections.abc import Iterable

from torch import Tensor


class MadeOf:
    """Remembers weights without keeping them alive."""

    def __init__(self, weights: Iterable[Tensor]):
        self._weights = [(weakref.ref(weight), _written(weight)) for weight in weights]

    def __call__(self, weights: Iterable[Tensor]) -> bool:
        """Whether these are the same tensors, neither exchanged nor written to since."""
        weights = list(weights)
        return len(weights) == len(self._weights) and all(
            kept() is weight and written == _written(weight) for (kept, written), weight in zip(self._weights, weights))


def _written(weight: Tensor) -> tuple[int, int]:
    """Changes when the tensor is moved or written to."""
    return weight.data_ptr(), 0 if weight.is_inference() else weight._version
