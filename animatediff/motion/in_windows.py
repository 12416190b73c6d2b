"""Context windows inside a motion module: window-based attention fusion of FreeNoise (arXiv:2310.15169, section 3.2).

Layers that mix frames run once per window, and overlapping results are blended. All other layers, in the module and in
the UNet, process every frame once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor

from animatediff.layout import Group, Views


class WindowedModule(Protocol):
    """A motion module with the attribute `window`: the numbers of the frames in the current window."""

    window: Group


class InWindows:
    """Runs a layer that mixes frames on each window of `views`. The result is Σ share · result, in float32 at least.

    numbers: the frame numbers of the group.
    like: a tensor on the device that is used.
    module: its `window` is set to the frame numbers of each window while that window is computed.
    """

    def __init__(self, views: Views, numbers: Group, like: Tensor, module: WindowedModule | None = None):
        self.module, self.parts = module, []
        self.longest = max(map(len, views.windows))
        for window, shares in zip(views.windows, views.shares):
            neighbours = window == tuple(range(window[0], window[-1] + 1))
            place = slice(window[0], window[-1] + 1) if neighbours else torch.tensor(window, device=like.device)
            share = torch.tensor(shares, dtype=torch.float32, device=like.device)
            self.parts.append((tuple(numbers[i] for i in window), place, share))

    def __call__(self, layer: Callable[..., Tensor], x: Tensor, *scale: float | Tensor) -> Tensor:
        """Return the blended results of `layer(x, *scale)`, which must keep the shape of x [b frame …].

        scale: numbers or [b frame]; tensors are cut to the window.
        """
        total = torch.zeros_like(x, dtype=torch.promote_types(x.dtype, torch.float32))
        for numbers, place, share in self.parts:
            with_scale = [s[:, place] if isinstance(s, Tensor) else s for s in scale]
            with self._seeing(numbers):
                result = layer(x[:, place].contiguous(), *with_scale)
            total[:, place] += result * share.view(-1, *[1] * (x.ndim - 2))
        return total.to(x.dtype)

    @contextmanager
    def _seeing(self, numbers: Group) -> Iterator[None]:
        """Set `module.window` to these frame numbers for the length of the block."""
        if self.module is None:
            yield
            return
        before, self.module.window = self.module.window, numbers
        try:
            yield
        finally:
            self.module.window = before
