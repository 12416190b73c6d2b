"""How much of the sampling each frame of a source, and each part of it, takes part in."""
from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor

from animatediff.clip.source import ChangeMask
from animatediff.sampling.from_pictures import run_strength, shares, until_share
from animatediff.settings import Settings


def until(settings: Settings, steps: int, mask: ChangeMask | None, size: tuple[int, int]) -> Tensor | None:
    """As `until_share`, in a run with `run_strength`: float32 [f 1 1 1], or with a mask [f 1 h w]; None where all of
    the clip has one strength. steps: that are asked for. size: height and width of the latents."""
    frames, strength = shares(settings, settings.frames), settings.denoising_strength
    most = run_strength(settings, settings.frames)
    if mask is None:
        if frames[0] and (frames == frames[0]).all():
            return None
        return until_share(steps, strength, frames, most).float().view(-1, 1, 1, 1)
    maps = torch.empty(settings.frames, 1, *size)
    for frame, share in enumerate(frames):
        white = torch.from_numpy(mask[frame].copy())[None, None].double() / 255
        maps[frame] = until_share(steps, strength, share * functional.adaptive_avg_pool2d(white, size), most)[0]
    return maps
