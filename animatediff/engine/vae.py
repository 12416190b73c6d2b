"""Encode pictures to latents, and decode latents to pictures."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from animatediff.errors import ModelError


@torch.no_grad()
def encode(vae, picture: np.ndarray) -> Tensor:
    """Return latents [1 c h w] in float32 for a picture, uint8 [h w 3]: the mean of the VAE's distribution."""
    x = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].to(vae.device, vae.dtype) / 127.5 - 1
    return (vae.encode(x).latent_dist.mode().float() - _shift(vae)) * vae.config.scaling_factor


@torch.no_grad()
def decode(vae, latents: Tensor, name: str, *, deep: bool = False) -> np.ndarray:
    """Return pictures, uint8 [n h w 3], or uint16 if `deep`, for latents [n c h w].

    If a half-precision VAE overflows, it is switched to fp32 until the end of the `as_it_was` context.

    name: the checkpoint's name, for errors. Raise ModelError if the pictures contain NaN.
    """
    latents = latents / vae.config.scaling_factor + _shift(vae)
    x = vae.decode(latents.to(vae.device, vae.dtype)).sample
    if not torch.isfinite(x).all() and vae.dtype != torch.float32:
        vae.float()
        x = vae.decode(latents.to(vae.device)).sample
    if not torch.isfinite(x).all():
        raise ModelError("the VAE's pictures contain NaN", where=name,
                         remedy="Use another checkpoint or VAE")
    x = (x.float() / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).contiguous()
    if deep:
        return (x * 65535).round().int().cpu().numpy().astype(np.uint16)
    return (x * 255).round().byte().cpu().numpy()


@contextmanager
def as_it_was(vae) -> Iterator[None]:
    """A context manager that restores the VAE's dtype at its end.

    The weights do not change, since fp32 holds all numbers of half precision.
    """
    before = vae.dtype
    try:
        yield
    finally:
        if vae.dtype != before:
            vae.to(before)


def _shift(vae) -> float:
    return getattr(vae.config, "shift_factor", None) or 0.0
