"""Windows inside a motion module: FreeNoise's window-based attention fusion (arXiv:2310.15169, section 3.2).

The rest of the UNet sees every frame once, and so do the module's own layers that keep frames apart. Only what mixes
frames runs window by window, and its results are joined where windows overlap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor

from animatediff.layout import Group, Views


class SeesFrames(Protocol):
    """A motion module, as far as it is told which frames it sees."""

    window: Group


class InWindows:
    """Runs a layer that mixes frames on the windows of `views`: Σ share · result, summed in float32 at least.

    `numbers`: of the group's frames, which `module`, if there is one, is told of as it is of a window by itself.
    """

    def __init__(self, views: Views, numbers: Group, like: Tensor, module: SeesFrames | None = None):
        self.module, self.parts = module, []
        self.longest = max(map(len, views.windows))
        for window, shares in zip(views.windows, views.shares):
            neighbours = window == tuple(range(window[0], window[-1] + 1))
            place = slice(window[0], window[-1] + 1) if neighbours else torch.tensor(window, device=like.device)
            share = torch.tensor(shares, dtype=torch.float32, device=like.device)
            self.parts.append((tuple(numbers[i] for i in window), place, share))

    def __call__(self, layer: Callable[..., Tensor], x: Tensor, *scale: float | Tensor) -> Tensor:
        """`layer(x, scale)` of x [b frame …], of which it keeps the shape, and of scale, a number or [b frame]."""
        total = torch.zeros_like(x, dtype=torch.promote_types(x.dtype, torch.float32))
        for numbers, place, share in self.parts:
            with_scale = [s[:, place] if isinstance(s, Tensor) else s for s in scale]
            with self._told(numbers):
                result = layer(x[:, place].contiguous(), *with_scale)
            total[:, place] += result * share.view(-1, *[1] * (x.ndim - 2))
        return total.to(x.dtype)

    @contextmanager
    def _told(self, numbers: Group) -> Iterator[None]:
        """In which the module knows that it sees these frames."""
        if self.module is None:
            yield
            return
        before, self.module.window = self.module.window, numbers
        try:
            yield
        finally:
            self.module.window = before
