"""Train the motion module (v2 layout) on 16-frame clips, with the image model frozen (arXiv:2307.04725)."""
from __future__ import annotations

import random
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel

from animatediff.layout import ClipLayout
from animatediff.motion import MotionModule, build, injected
from animatediff.unet.prompts_once import prompts_once

from . import image, text
from .clips import FRAMES
from .diffusion import STEPS, alphas_cumprod, draws, half_hidden, weighted_error
from .loop import Plan, train

POSITIONS = 32
SHORTEST = 6  # frames of the shortest part of a clip


def fit(
    folder: Path,
    latents: torch.Tensor,
    contexts: text.Contexts,
    unet: UNet2DConditionModel,
    *,
    steps: int,
    batch: int,
    seed: int,
) -> MotionModule:
    """Train and return the motion module, in eval mode and frozen.

    batch: number of clips of 16 frames; batches of shorter parts have more clips.

    A third of the batches contains parts of clips, so that shorter clips move too. A module that was trained on 16
    frames only produces no motion in clips of 8.
    """
    torch.manual_seed(seed)
    module = build(image.WIDTHS, "v2", frames=POSITIONS)
    schedule = alphas_cumprod("linear")
    layout = ClipLayout.contiguous(FRAMES, groups=batch)

    def loss_at(step: int) -> dict[str, torch.Tensor]:
        nonlocal layout
        rng = random.Random(seed * 1_000_003 + step)
        frames = FRAMES if rng.random() < 2 / 3 else rng.randint(SHORTEST, FRAMES)
        drawn = batch * FRAMES // frames
        layout = ClipLayout.contiguous(frames, groups=drawn)
        clips = torch.tensor([rng.randrange(len(latents)) for _ in range(drawn)])
        first = [rng.randint(0, FRAMES - frames) for _ in range(drawn)]
        x = torch.cat([latents[clip, at : at + frames].float() for clip, at in zip(clips, first)])
        context = contexts(clips, dropped=0.1).repeat_interleave(frames, 0)
        # Positions are decided at high noise, which has only a hundredth of the loss with uniform timesteps.
        t, seen = (each.repeat_interleave(frames) for each in draws(drawn, STEPS // 2, STEPS))
        alphas = schedule[t]
        noisy, target = half_hidden(x, alphas, seen)
        predicted = unet(noisy, t, context).sample
        return {"loss": weighted_error(predicted, target, alphas, x, power=0.5)}

    with injected(unet, module, lambda rows: layout), prompts_once(unet):
        train("motion", folder, {"motion": module}, module.parameters(), loss_at,
              Plan(steps=steps, rate=1.5e-3, ema=0.999))
    return module.eval().requires_grad_(False)
