"""Seam repair: noise the frames around a loop's seam again and denoise them in one window across the seam.

The inner half of the window is denoised from the first step. The other frames join one after another. Until then a
frame is held to its finished latents (Levin and Fried, "Differential Diffusion", arXiv:2306.00950, with frames in place
of pixels). The first and last frame of the window never join, so the new frames fit the old ones.
"""
from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from animatediff.sampling.from_pictures import Held
from animatediff.windows import Window

FEWEST = 4  # frames in the window: two at the seam, and one at each end that never joins


@dataclass(frozen=True)
class Seam:
    """A seam repair."""

    window: Window  # frames, with the seam in their middle
    joins: tuple[int, ...]  # for each frame of the window the step from which it is denoised; `steps`: never
    steps: int  # number of steps that are repeated

    @classmethod
    def of(cls, frames: int, context: int, steps: int) -> Seam | None:
        """Return the repair of a clip, or None if there are no steps or the window has less than FEWEST frames.

        frames: number of frames in the clip. context: context length. steps: number of steps that are repeated.
        """
        length = min(frames, context)
        if not steps or length < FEWEST:
            return None
        half = length // 2
        distances = [half - 1 - k if k < half else k - half for k in range(length)]  # frames to the seam
        joins = tuple(steps - round(steps * min(1, max(0, 2 - 2 * distance / (half - 1)))) for distance in distances)
        return cls(tuple((frames - half + k) % frames for k in range(length)), joins, steps)

    def held(self, clip: Tensor, pictures: Held | None = None) -> Held:
        """Return which frames of the finished clip [f c h w] are held, and how long.

        Frames of the window are held until they join, all others to the end. Frames that `pictures` holds to the end
        are also held to the end.
        """
        until = torch.ones(len(clip), dtype=torch.float64)
        until[list(self.window)] = torch.tensor(self.joins, dtype=torch.float64) / self.steps
        if pictures is not None:
            kept = (pictures.until >= 1).to(until)
            until = until.view([-1] + [1] * (kept.ndim - 1)).maximum(kept.to(until.device))
        return Held(clip, until)
