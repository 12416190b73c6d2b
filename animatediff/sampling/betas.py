"""Noise levels of a beta schedule at each training timestep.

A motion module was trained with one schedule. With another it gives grey, washed-out clips, with every sampler. Each
family has its own schedule (motion.BetaSchedule).
"""
from __future__ import annotations

from typing import Protocol

import torch


class Schedule(Protocol):
    """The part of motion.BetaSchedule that this module uses."""

    def betas(self) -> torch.Tensor: ...  # float64 [steps]

    def alphas_cumprod(self) -> torch.Tensor: ...  # float64 [steps]


def alphas_cumprod(schedule: Schedule) -> torch.Tensor:
    """Return ᾱ_t = Π (1 − β), [steps] (DDPM, arXiv:2006.11239, eq. 4).

    It is computed in float64 and returned in float32, as solvers and hosts store it.
    """
    return schedule.alphas_cumprod().float()


def sigmas(schedule: Schedule) -> torch.Tensor:
    """Return σ_t = √((1 − ᾱ)/ᾱ), float64 [steps], ascending: the noise level of x₀ + σε."""
    alphas = schedule.alphas_cumprod()
    return ((1.0 - alphas) / alphas).sqrt()
