"""Train the image model: the UNet, on single frames, with a frozen text encoder.

Half of each batch is noised with Stable Diffusion's betas and half with AnimateDiff's, because the frozen model is used
for stills with the first and for clips with the second. Frames from the beginning of a clip are drawn more often than
frames from its end. So words of motion affect where the image model places the shape, and the motion module can read
the direction from that.
"""
from __future__ import annotations

import random
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel

from animatediff.unet.prompts_once import prompts_once

from . import text
from .clips import FRAMES
from .diffusion import alphas_cumprod, draws, half_hidden, weighted_error
from .loop import Plan, train

WIDTHS = (64, 64, 64, 64)
FRAMES_OF_A_CLIP = 4  # frames of the same clip in a batch


def build() -> UNet2DConditionModel:
    """Return an untrained UNet."""
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=WIDTHS,
        layers_per_block=2,
        cross_attention_dim=text.WIDTH,
        attention_head_dim=8,
        norm_num_groups=32,
    )


def fit(
    folder: Path, latents: torch.Tensor, contexts: text.Contexts, *, steps: int, batch: int, seed: int
) -> UNet2DConditionModel:
    """Train and return the UNet, in eval mode and frozen."""
    torch.manual_seed(seed)
    unet = build()
    schedules = torch.stack([alphas_cumprod("scaled_linear"), alphas_cumprod("linear")])

    def loss_at(step: int) -> dict[str, torch.Tensor]:
        rng = random.Random(seed * 1_000_003 + step)
        clips = torch.tensor([rng.randrange(len(latents)) for _ in range(batch // FRAMES_OF_A_CLIP)])
        rows = clips.repeat_interleave(FRAMES_OF_A_CLIP)
        # Frame numbers follow Beta(1, 4) over the clip's duration.
        moments = torch.tensor([int(FRAMES * (1 - rng.random() ** (1 / 4))) for _ in rows]).clamp(max=FRAMES - 1)
        x = latents[rows, moments].float()
        context = contexts(clips, dropped=0.12).repeat_interleave(FRAMES_OF_A_CLIP, 0)
        t, seen = draws(len(rows), 50, 550)  # at these timesteps outlines are decided
        alphas = schedules[torch.arange(len(rows)) % 2, t]
        noisy, target = half_hidden(x, alphas, seen)
        predicted = unet(noisy, t, context).sample
        return {"loss": weighted_error(predicted, target, alphas, x, power=0.75)}

    with prompts_once(unet):
        train("image", folder, {"unet": unet}, unet.parameters(), loss_at, Plan(steps=steps, rate=1e-3, ema=0.999))
    return unet.eval().requires_grad_(False)
