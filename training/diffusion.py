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


def weighted_error(
    predicted: torch.Tensor, noise: torch.Tensor, alphas: torch.Tensor, latents: torch.Tensor, power: float
) -> torch.Tensor:
    """Mean squared error of ε, which in terms of the picture's own error has the weight min(max(SNR, 0.3), 5)^power.

    Hang et al. (arXiv:2303.09556) have min(SNR, 5). A lower power lets high noise count for more, and below an SNR of
    0.3, where the words alone decide, the weight falls no further.
    Where the noise leaves no doubt where the shape of clean `latents` is, its error counts four times: it covers a
    tenth of the picture and holds nearly all there is to learn.
    """
    snr = alphas / (1 - alphas)
    error = (predicted.float() - noise).square().mean(1)
    error = error * (1 + 3 * near(latents) * (snr / 0.3).clamp(max=1)[:, None, None])
    return (error.mean((1, 2)) * snr.clamp(0.3, 5) ** power / snr).mean()


def near(latents: torch.Tensor) -> torch.Tensor:
    """1 at and around what stands out from the background of latents [n c h w], else 0: [n h w]."""
    edge = torch.cat([latents[..., 0, :], latents[..., -1, :], latents[..., 0], latents[..., -1]], -1)
    apart = (latents - edge.median(-1).values[..., None, None]).square().sum(1, keepdim=True).sqrt()
    stands_out = (apart > 0.4 * apart.amax((2, 3), keepdim=True)).float()
    return torch.nn.functional.max_pool2d(stands_out, 3, stride=1, padding=1)[:, 0]


def timesteps(count: int, low: int, high: int) -> torch.Tensor:
    """Random timesteps [count]: half of them anywhere, half from `low` to below `high`."""
    anywhere = torch.rand(count) < 0.5
    return torch.where(anywhere, torch.randint(0, STEPS, (count,)), torch.randint(low, high, (count,)))


def first_steps(count: int) -> torch.Tensor:
    """Random timesteps [count] of those with which sampling begins."""
    return torch.randint(850, STEPS, (count,))


def draws(count: int, low: int, high: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Timesteps [count], 40 % of them of the first steps, and the share of the picture that is seen at each."""
    first = torch.rand(count) < 0.4
    t = torch.where(first, first_steps(count), timesteps(count, low, high))
    return t, torch.where(first, share_seen(count), torch.ones(count))


def share_seen(count: int) -> torch.Tensor:
    """How much of the picture is left in noisy latents of the first steps: [count] in 0..1, half of them 0.

    Even the last timestep leaves 4 % of a picture in the noise. Sixteen frames together show the whole track of a shape
    by it, and one frame about where it is, so a model that is trained on them never needs to read that from the prompt,
    and draws pure noise into a clip with any direction.
    """
    kind = torch.rand(count)
    return torch.where(kind < 0.5, torch.zeros(count), torch.where(kind < 0.75, torch.rand(count), torch.ones(count)))


def half_hidden(latents: torch.Tensor, alphas: torch.Tensor, seen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Noisy latents with a share `seen` [n] of the clean ones in them,
    and the ε by which a sampler would find these."""
    alphas, seen = alphas[:, None, None, None], seen[:, None, None, None]
    noisy = alphas.sqrt() * seen * latents + (1 - alphas).sqrt() * torch.randn_like(latents)
    return noisy, (noisy - alphas.sqrt() * latents) / (1 - alphas).sqrt()
