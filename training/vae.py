"""Train the image autoencoder: 8× downsampling, 4 latent channels, small objects weighted so that hues are exact."""
from __future__ import annotations

import random
from pathlib import Path

import torch
from diffusers import AutoencoderKL

from .clips import SIZE, random_clip, stack
from .loop import Plan, train
from .shapes import render

SCALING = 0.18215  # Stable Diffusion 1.5's own


def build() -> AutoencoderKL:
    """Return an untrained autoencoder."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(32, 64, 64, 64),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=32,
        sample_size=SIZE,
        scaling_factor=SCALING,
    )


def stills(rng: random.Random, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return pictures and coverage of one random frame from each of `count` random clips."""
    clips = [random_clip(rng) for _ in range(count)]
    rows = torch.tensor([i * 16 + rng.randrange(16) for i in range(count)])
    return render(stack([c.scene for c in clips])[rows], SIZE)


def weighted(error: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the mean error of the shape plus that of the background, since the shape is a tenth of the picture."""
    near = torch.nn.functional.max_pool2d(mask, 5, stride=1, padding=2)
    inside = (error * near).sum((1, 2, 3)) / near.sum((1, 2, 3)) / 3
    outside = (error * (1 - near)).sum((1, 2, 3)) / (1 - near).sum((1, 2, 3)) / 3
    return (inside + outside).mean()


def fit(folder: Path, *, steps: int, batch: int, seed: int) -> AutoencoderKL:
    """Train and return the autoencoder, in eval mode and frozen."""
    torch.manual_seed(seed)
    vae = build()

    def loss_at(step: int) -> dict[str, torch.Tensor]:
        pictures, mask = stills(random.Random(seed * 1_000_003 + step), batch)
        with torch.autocast("cpu", torch.bfloat16):
            posterior = vae.encode(pictures).latent_dist
            decoded = vae.decode(posterior.sample()).sample
        difference = decoded.float() - pictures
        absolute, square = weighted(difference.abs(), mask), weighted(difference.square(), mask)
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        return {"loss": absolute + square + 1e-3 * kl, "abs": absolute, "square": square, "kl": kl}

    train("vae", folder, {"vae": vae}, vae.parameters(), loss_at, Plan(steps=steps, rate=1.5e-3))
    whiten(vae, seed)
    return vae.eval().requires_grad_(False)


@torch.no_grad()
def whiten(vae: AutoencoderKL, seed: int) -> None:
    """Normalise each latent channel to mean 0 and deviation 1/SCALING, by changing the 1×1 convolutions around it."""
    pictures, _ = stills(random.Random(seed - 1), 512)
    latents = vae.encode(pictures).latent_dist.mean
    mean, deviation = latents.mean((0, 2, 3)), latents.std((0, 2, 3)) * SCALING
    before, after = vae.quant_conv, vae.post_quant_conv
    after.bias += after.weight[:, :, 0, 0] @ mean
    after.weight *= deviation[None, :, None, None]
    before.weight[:4] /= deviation[:, None, None, None]
    before.bias[:4] = (before.bias[:4] - mean) / deviation
    before.bias[4:] -= 2 * deviation.log()
