"""How long the frames of a pass, or parts of them, are held to the pictures that they start from."""
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from animatediff.clip import strength
from animatediff.clip.plan import Plan
from animatediff.errors import SettingsError
from animatediff.hosts.a1111 import pictures
from animatediff.hosts.a1111.source import SourceVideo
from animatediff.sampling.from_pictures import Held, steps_placed

PIXELS = 8  # picture pixels per latent pixel, on each side


@dataclass(frozen=True)
class HeldInPass:
    """What a pass is held to."""

    until: Tensor | None = None  # see `clip.strength.until`, for a pass that starts from pictures
    held: Held | None = None  # for a pass from noise or of Hires. fix: the source, where the mask is black


def of_pass(p: Any, plan: Plan, source: SourceVideo | None, noise: Tensor) -> HeldInPass:
    """Return what the next pass is held to. noise: its noise [f c h w]."""
    height, width = noise.shape[-2:]
    sampled = plan.second.sampled if p.is_hr_pass and plan.second else plan.inputs.sampled
    steps, _ = steps_placed(sampled.steps, sampled.strength, exact=sampled.exact)
    masked = source is not None and source.mask is not None
    if pictures.from_picture(p):
        if masked and p.paste_to:
            raise SettingsError("the source's mask is of whole frames, and only a part of them is inpainted",
                                where="mask_path", remedy="Set Inpaint area to Whole picture.")
        mask = source.change_mask((p.width, p.height), plan.settings.frames) if source else None
        return HeldInPass(until=strength.until(plan.settings, steps, mask, (height, width)))
    if source is None or not masked:
        return HeldInPass()
    size, frames = (width * PIXELS, height * PIXELS), plan.settings.frames
    whole = replace(plan.settings, denoising_strength_frames="1", denoising_strength=1.0 if sampled.strength is None
                    else sampled.strength)
    until = strength.until(whole, steps, source.change_mask(size, frames), (height, width))
    latents = torch.cat([pictures.encoded(p, Image.fromarray(each)) for each in source.pictures(size)])
    assert until is not None, "there is a mask"
    return HeldInPass(held=Held(latents.expand(frames, -1, -1, -1), until))
