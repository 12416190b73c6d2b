"""The motion module: v2 layout, trained alone on 16-frame clips with the image model frozen (arXiv:2307.04725)."""
from __future__ import annotations

import random
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from transformers import CLIPTextModel

from animatediff.layout import ClipLayout
from animatediff.motion import MotionModule, build, injected

from . import image, text
from .clips import FRAMES
from .diffusion import STEPS, alphas_cumprod, noised, timesteps, weighted_error
from .loop import train

POSITIONS = 32
FIRST_STEPS = 850


def share_seen(count: int) -> torch.Tensor:
    """How much of each clip is left in its noisy latents, in 0..1.

    Even the last timestep leaves 4 % of a clip in the noise. One frame tells little by it, but sixteen together
    show the whole track of a shape, so that a module trained on them never needs to read the direction from the prompt,
    and draws clips from pure noise with a random one. In half of the draws for the first steps nothing is left.
    """
    kind = torch.rand(count)
    return torch.where(kind < 0.5, torch.zeros(count), torch.where(kind < 0.75, torch.rand(count), torch.ones(count)))


def fit(
    folder: Path,
    latents: torch.Tensor,
    captions: list[str],
    texts: text.Texts,
    unet: UNet2DConditionModel,
    encoder: CLIPTextModel,
    *,
    steps: int,
    batch: int,
    seed: int,
) -> MotionModule:
    """`batch` counts clips."""
    torch.manual_seed(seed)
    module = build(image.WIDTHS, "v2", frames=POSITIONS)
    with torch.no_grad():
        contexts = torch.cat([encoder(ids).last_hidden_state.half() for ids in texts(captions).split(64)])
        nothing = encoder(texts([""])).last_hidden_state
    schedule = alphas_cumprod("linear")
    layout = ClipLayout.contiguous(FRAMES, groups=batch)

    def loss_at(step: int) -> dict[str, torch.Tensor]:
        rng = random.Random(seed * 1_000_003 + step)
        clips = torch.tensor([rng.randrange(len(captions)) for _ in range(batch)])
        x = latents[clips].float().flatten(0, 1)
        context = contexts[clips].float()
        context[torch.rand(batch) < 0.1] = nothing[0]
        # Where things are is decided early, at high noise, where the usual weights leave a hundredth of the loss.
        first_steps = torch.rand(batch) < 0.4
        t = torch.where(first_steps, torch.randint(FIRST_STEPS, STEPS, (batch,)), timesteps(batch, STEPS // 2, STEPS))
        seen = torch.where(first_steps, share_seen(batch), torch.ones(batch))
        t, seen = t.repeat_interleave(FRAMES), seen.repeat_interleave(FRAMES)
        alphas, noise = schedule[t], torch.randn_like(x)
        noisy = noised(x * seen[:, None, None, None], noise, alphas)
        wanted = (noisy - alphas.sqrt()[:, None, None, None] * x) / (1 - alphas).sqrt()[:, None, None, None]
        predicted = unet(noisy, t, context.repeat_interleave(FRAMES, 0)).sample
        return {"loss": weighted_error(predicted, wanted, alphas, x, power=0.5)}

    with injected(unet, module, lambda rows: layout):
        train("motion", folder, {"motion": module}, module.parameters(), loss_at, steps=steps, rate=1.5e-3, ema=0.999)
    return module.eval().requires_grad_(False)
