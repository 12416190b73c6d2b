"""The forward diffusion process: noise schedules, noisy latents and the weighted loss."""
from __future__ import annotations

import torch

STEPS = 1000


def alphas_cumprod(kind: str) -> torch.Tensor:
    """Return ᾱ [1000] for Stable Diffusion's "scaled_linear" or AnimateDiff's "linear" betas, 0.00085 to 0.012."""
    first, last = 0.00085, 0.012
    if kind == "linear":
        betas = torch.linspace(first, last, STEPS, dtype=torch.float64)
    else:
        betas = torch.linspace(first**0.5, last**0.5, STEPS, dtype=torch.float64).square()
    return (1 - betas).cumprod(0).float()


def weighted_error(
    predicted: torch.Tensor, noise: torch.Tensor, alphas: torch.Tensor, latents: torch.Tensor, power: float
) -> torch.Tensor:
    """Return the mean squared error of ε, weighted by SNR and by position.

    Expressed as an error of the clean latents, the weight is min(max(SNR, 0.3), 5)^power. Hang et al.
    (arXiv:2303.09556) use min(SNR, 5). A lower power gives more weight to high noise. The weight is constant below an
    SNR of 0.3, where the prompt alone decides the picture.

    Unless noise hides the shape in the clean `latents`, the error there counts four times, since the shape covers a
    tenth of the picture and contains nearly all that can be learned.
    """
    snr = alphas / (1 - alphas)
    error = (predicted.float() - noise).square().mean(1)
    error = error * (1 + 3 * near(latents) * (snr / 0.3).clamp(max=1)[:, None, None])
    return (error.mean((1, 2)) * snr.clamp(0.3, 5) ** power / snr).mean()


def near(latents: torch.Tensor) -> torch.Tensor:
    """Return [n h w]: 1 at and around the shape in latents [n c h w], 0 on the background."""
    edge = torch.cat([latents[..., 0, :], latents[..., -1, :], latents[..., 0], latents[..., -1]], -1)
    distance = (latents - edge.median(-1).values[..., None, None]).square().sum(1, keepdim=True).sqrt()
    stands_out = (distance > 0.4 * distance.amax((2, 3), keepdim=True)).float()
    return torch.nn.functional.max_pool2d(stands_out, 3, stride=1, padding=1)[:, 0]


def timesteps(count: int, low: int, high: int) -> torch.Tensor:
    """Return random timesteps [count]: half of them from the whole range, half from `low` to below `high`."""
    anywhere = torch.rand(count) < 0.5
    return torch.where(anywhere, torch.randint(0, STEPS, (count,)), torch.randint(low, high, (count,)))


def first_steps(count: int) -> torch.Tensor:
    """Return random timesteps [count] of the high noise with which sampling begins."""
    return torch.randint(850, STEPS, (count,))


def draws(count: int, low: int, high: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return timesteps [count], 40 % of them from `first_steps`, and for each the share of the picture that is kept."""
    first = torch.rand(count) < 0.4
    t = torch.where(first, first_steps(count), timesteps(count, low, high))
    return t, torch.where(first, share_seen(count), torch.ones(count))


def share_seen(count: int) -> torch.Tensor:
    """Return the share of the picture that is kept in the noisy latents of `first_steps`: [count] in 0..1, half are 0.

    Even the last timestep keeps 4 % of the picture in the noise. From that, sixteen frames show the whole track of a
    shape, and one frame shows roughly its position. A model trained on these latents need not read the direction from
    the prompt, and would turn pure noise into a clip with an arbitrary direction.
    """
    kind = torch.rand(count)
    return torch.where(kind < 0.5, torch.zeros(count), torch.where(kind < 0.75, torch.rand(count), torch.ones(count)))


def half_hidden(latents: torch.Tensor, alphas: torch.Tensor, seen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return noisy latents with a share `seen` [n] of the clean ones, and the ε that leads to the clean ones."""
    alphas, seen = alphas[:, None, None, None], seen[:, None, None, None]
    noisy = alphas.sqrt() * seen * latents + (1 - alphas).sqrt() * torch.randn_like(latents)
    return noisy, (noisy - alphas.sqrt() * latents) / (1 - alphas).sqrt()
