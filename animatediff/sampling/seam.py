"""Seam repair: the frames around a clip's seam are noised again and denoised in one window that lies across it.

The inner half of the window joins the denoising at once, and then frame by frame the rest: until then, a frame is held
to its finished self (Levin and Fried, "Differential Diffusion", arXiv:2306.00950, with frames in place of pixels). The
window's ends never join, so that what is made new leads over to what stays.
"""
from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from animatediff.sampling.from_pictures import Held
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

    def held(self, clip: Tensor, pictures: Held | None = None) -> Held:
        """What the repair holds of the finished clip [f c h w]: frames of the window until they join, all others to the
        end; to the end, too, those that `pictures` holds so."""
        until = torch.ones(len(clip), dtype=torch.float64)
        until[list(self.window)] = torch.tensor(self.joins, dtype=torch.float64) / self.steps
        if pictures is not None:
            kept = (pictures.until >= 1).to(until)
            until = until.view([-1] + [1] * (kept.ndim - 1)).maximum(kept.to(until.device))
        return Held(clip, until)
