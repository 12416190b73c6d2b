"""The forward process: noise schedules, noised latents, the weighted loss."""
from __future__ import annotations

import torch

STEPS = 1000


def alphas_cumprod(kind: str) -> torch.Tensor:
    """ᾱ [1000] of Stable Diffusion's "scaled_linear" or AnimateDiff's "linear" betas, 0.00085 to 0.012."""
    first, last = 0.00085, 0.012
    if kind == "linear":
        betas = torch.linspace(first, last, STEPS, dtype=torch.float64)
    else:
        betas = torch.linspace(first**0.5, last**0.5, STEPS, dtype=torch.float64).square()
    return (1 - betas).cumprod(0).float()


def noised(latents: torch.Tensor, noise: torch.Tensor, alphas: torch.Tensor) -> torch.Tensor:
    """√ᾱ·x + √(1−ᾱ)·ε for latents [n c h w] and ᾱ [n]."""
    alphas = alphas[:, None, None, None]
    return alphas.sqrt() * latents + (1 - alphas).sqrt() * noise


def weighted_error(predicted: torch.Tensor, noise: torch.Tensor, alphas: torch.Tensor) -> torch.Tensor:
    """Mean squared error of ε weighted by min(SNR, 5)/SNR (Hang et al., arXiv:2303.09556)."""
    snr = alphas / (1 - alphas)
    return ((predicted.float() - noise).square().mean((1, 2, 3)) * snr.clamp(max=5) / snr).mean()
