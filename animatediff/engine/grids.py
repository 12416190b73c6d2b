"""Timestep grids: the WebUI's schedule types in continuous timesteps."""
from __future__ import annotations

import numpy as np


def times(grid: str, steps: int, sigmas) -> list[float]:
    """Return the timesteps of a grid in sampling order. The first is the schedule's last timestep (σmax).

    grid: one of
      "Uniform": from the last timestep to 0, both included (k-diffusion's `get_sigmas`);
      "SGM Uniform": the same without 0 (Stability's generative-models);
      "trailing": k/n of the schedule, without its end (arXiv:2305.08891, table 2);
      "Karras": ρ = 7 (arXiv:2206.00364, eq. 5);
      "Exponential": evenly spaced in log σ (k-diffusion's `get_sigmas_exponential`).
    steps: number of timesteps.
    sigmas: σ of each training timestep, ascending.
    """
    last = len(sigmas) - 1
    if grid == "Uniform":
        return np.linspace(last, 0, steps).tolist()
    if grid == "SGM Uniform":
        return np.linspace(last, 0, steps + 1)[:-1].tolist()
    if grid == "trailing":
        return (len(sigmas) * (1 - np.arange(steps) / steps) - 1).tolist()
    share, high, low = np.linspace(0, 1, steps), sigmas[-1], sigmas[0]
    if grid == "Karras":
        levels = (high ** (1 / 7) + share * (low ** (1 / 7) - high ** (1 / 7))) ** 7
    elif grid == "Exponential":
        levels = np.exp(np.log(high) + share * (np.log(low) - np.log(high)))
    else:
        raise ValueError(f"unknown grid {grid!r}")
    return np.interp(np.log(levels), np.log(sigmas), np.arange(len(sigmas))).tolist()
