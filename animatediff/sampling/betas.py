"""Beta schedules: how much of the picture is left at each of the training's timesteps.

A motion module was trained with one schedule and gives grey, washed-out clips with another, whatever the
sampler. Everything is computed in float64 and handed on in float32.
"""
from __future__ import annotations

from typing import Protocol

import torch

TRAIN_STEPS = 1000


class Betas(Protocol):
    """What is read of a family's schedule (motion.BetaSchedule has it)."""

    kind: str  # "linear" or "scaled linear"
    start: float
    end: float


def betas(schedule: Betas, steps: int = TRAIN_STEPS) -> torch.Tensor:
    """β_t in float64 [steps]. "linear": evenly spaced β; "scaled linear": evenly spaced √β (latent diffusion's)."""
    kind = schedule.kind.replace("_", " ")
    if kind == "linear":
        return torch.linspace(schedule.start, schedule.end, steps, dtype=torch.float64)
    if kind == "scaled linear":
        return torch.linspace(schedule.start**0.5, schedule.end**0.5, steps, dtype=torch.float64) ** 2
    raise ValueError(f"unknown beta schedule {schedule.kind!r}: linear and scaled linear are known")


def alphas_cumprod(schedule: Betas, steps: int = TRAIN_STEPS) -> torch.Tensor:
    """ᾱ_t = Π (1 − β) in float32 [steps], multiplied up in float64 (DDPM, arXiv:2006.11239, eq. 4)."""
    return torch.cumprod(1.0 - betas(schedule, steps), dim=0).float()


def sigmas(schedule: Betas, steps: int = TRAIN_STEPS) -> torch.Tensor:
    """σ_t = √((1 − ᾱ)/ᾱ) in float64 [steps], ascending: the noise beside a picture of unit scale."""
    alphas = torch.cumprod(1.0 - betas(schedule, steps), dim=0)
    return ((1.0 - alphas) / alphas).sqrt()
