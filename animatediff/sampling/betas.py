"""Beta schedules: how much of the picture is left at each of the training's timesteps.

A motion module was trained with one schedule and gives grey, washed-out clips with another, whatever the
sampler. Each family names its own (motion.BetaSchedule); products are taken in float64 and handed on in float32.
"""
from __future__ import annotations

from typing import Protocol

import torch


class Schedule(Protocol):
    """What is read of motion.BetaSchedule."""

    def betas(self) -> torch.Tensor: ...  # float64 [steps]

    def alphas_cumprod(self) -> torch.Tensor: ...  # float64 [steps]


def alphas_cumprod(schedule: Schedule) -> torch.Tensor:
    """ᾱ_t = Π (1 − β) in float32 [steps] (DDPM, arXiv:2006.11239, eq. 4), which is what solvers and hosts hold."""
    return schedule.alphas_cumprod().float()


def sigmas(schedule: Schedule) -> torch.Tensor:
    """σ_t = √((1 − ᾱ)/ᾱ) in float64 [steps], ascending: the noise beside a picture of unit scale."""
    alphas = schedule.alphas_cumprod()
    return ((1.0 - alphas) / alphas).sqrt()
