"""The training set: latents of clips [clips 16 4 8 8] in half precision, with captions. It is computed once."""
from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import AutoencoderKL

from .clips import SIZE, Clip, random_clip, stack
from .shapes import render
from .vae import SCALING


@torch.no_grad()
def cached(folder: Path, vae: AutoencoderKL, *, clips: int, seed: int,
           draw: Callable[[random.Random], Clip] = random_clip) -> tuple[torch.Tensor, list[str]]:
    """Return latents and captions, from `folder/latents.pt` if it exists; otherwise compute and save them.

    draw: returns a random clip.
    """
    path = folder / "latents.pt"
    if path.exists():
        stored = torch.load(path, weights_only=True)
        return stored["latents"], stored["captions"]
    rng = random.Random(seed)
    latents, captions = [], []
    for first in range(0, clips, 8):
        batch = [draw(rng) for _ in range(min(8, clips - first))]
        pictures, _ = render(stack([c.scene for c in batch]), SIZE)
        with torch.autocast("cpu", torch.bfloat16):
            mean = vae.encode(pictures).latent_dist.mean.float() * SCALING
        latents.append(mean.unflatten(0, (len(batch), -1)).half())
        captions += [c.caption for c in batch]
        if first % 800 == 0:
            print(f"latents {first}/{clips}", flush=True)
    stored = {"latents": torch.cat(latents), "captions": captions}
    torch.save(stored, path)
    return stored["latents"], captions
