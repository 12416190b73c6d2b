"""The denoising strength of each frame, and of each part of a frame with a mask."""
from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor

from animatediff.clip.source import ChangeMask
from animatediff.sampling.from_pictures import run_strength, shares, until_share
from animatediff.settings import Settings


def until(settings: Settings, steps: int, mask: ChangeMask | None, size: tuple[int, int]) -> Tensor | None:
    """Return the share of the steps for which frames or parts of them are held, see `until_share`.

    The result is float32 [f 1 1 1], or [f 1 h w] with a mask. It is None if the whole clip has one strength.
    steps: number of steps in the settings. size: height and width of the latents.
    """
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
