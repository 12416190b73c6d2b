"""Seam repair: the frames around a clip's seam are noised again and denoised in one window that lies across it.

The inner half of the window joins the denoising at once, and then frame by frame the rest: until then, a frame is its
finished self at the step's noise level (Levin and Fried, "Differential Diffusion", arXiv:2306.00950, with frames in
place of pixels). The window's ends never join, so that what is made new leads over to what stays.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from animatediff.windows import Window

FEWEST = 4  # frames; two at the seam, and one at each end of the window that stays


@dataclass(frozen=True)
class Seam:
    """`window`: the frames, the seam in their middle. `joins`: the step of the repair's own, `steps` in number, at
    which each of them is let go; `steps` for never."""

    window: Window
    joins: tuple[int, ...]
    steps: int

    @classmethod
    def of(cls, frames: int, context: int, steps: int) -> Seam | None:
        """steps: that are done again at the seam. None where there is nothing to do."""
        length = min(frames, context)
        if not steps or length < FEWEST:
            return None
        half = length // 2
        distances = [half - 1 - k if k < half else k - half for k in range(length)]  # frames to the seam
        joins = tuple(steps - round(steps * min(1, max(0, 2 - 2 * distance / (half - 1)))) for distance in distances)
        return cls(tuple((frames - half + k) % frames for k in range(length)), joins, steps)

    def holder(self, finished: Tensor, noise: Tensor, noised: Callable[[Tensor, Tensor, int], Tensor]
               ) -> Callable[[Tensor, int], Tensor]:
        """What puts the frames that have not joined back in their place before a step.

        finished, noise [f c h w]: the window's latents, and the noise they start from. noised(latents, noise, step):
        the latents at the noise level of `step`, without noise behind the last one.
        """
        joins = torch.tensor(self.joins, device=finished.device).view(-1, 1, 1, 1)

        def hold(x: Tensor, step: int) -> Tensor:
            return torch.where(joins < step, x, noised(finished, noise, step)) if (joins >= step).any() else x

        return hold
