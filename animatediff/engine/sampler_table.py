"""The samplers and schedule types that there are, under the WebUI's names, and where their steps lie."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from animatediff.errors import SettingsError


@dataclass(frozen=True)
class Sampler:
    """`solver` and `options` name the diffusers scheduler; OWN_SOLVER is this project's. `automatic` is the schedule
    type that the WebUI gives it where none is chosen; `own_grid` is that of a sampler which takes none.

    variance_exploding: the solver's latents are x₀ + σε (Euler's) rather than αx₀ + σε. stochastic: noise in each step.
    """

    name: str
    solver: str
    automatic: str = "Uniform"
    options: tuple[tuple[str, Any], ...] = ()
    own_grid: str = ""
    variance_exploding: bool = False
    stochastic: bool = False


OWN_SOLVER = "DPMSolverSDE"
AUTOMATIC = "Automatic"
SCHEDULE_TYPES = (AUTOMATIC, "Uniform", "Karras", "Exponential", "SGM Uniform")
_MULTISTEP = ("final_sigmas_type", "zero")
SAMPLERS: dict[str, Sampler] = {
    s.name: s
    for s in (
        Sampler("Euler", "EulerDiscreteScheduler", variance_exploding=True),
        Sampler("Euler a", "EulerAncestralDiscreteScheduler", variance_exploding=True, stochastic=True),
        Sampler("DPM++ 2M", "DPMSolverMultistepScheduler", "Karras", (_MULTISTEP,)),
        Sampler("DPM++ SDE", OWN_SOLVER, "Karras", variance_exploding=True, stochastic=True),
        Sampler("DPM++ 2M SDE", "DPMSolverMultistepScheduler", "Exponential",
                (_MULTISTEP, ("algorithm_type", "sde-dpmsolver++")), stochastic=True),
        # η = 0, which is DPM-Solver++ of order one (arXiv:2211.01095, sec. 4)
        Sampler("DDIM", "DPMSolverMultistepScheduler", options=(_MULTISTEP, ("solver_order", 1)), own_grid="trailing"),
        Sampler("UniPC", "UniPCMultistepScheduler", options=(_MULTISTEP,), own_grid="trailing"),  # order 2, B₂(h)
        Sampler("LCM", "LCMScheduler", own_grid="lcm", stochastic=True),
        Sampler("Heun", "HeunDiscreteScheduler", variance_exploding=True),
    )
}


def get(name: str) -> Sampler:
    if name not in SAMPLERS:
        raise SettingsError(f"{name!r} is unknown", where="sampler", remedy=f"Use one of {', '.join(SAMPLERS)}.")
    return SAMPLERS[name]


def grid_of(sampler: Sampler, schedule_type: str) -> str:
    """How the sampler's steps are placed: its own grid, or a schedule type. SettingsError for an unknown type."""
    if schedule_type not in SCHEDULE_TYPES:
        raise SettingsError(f"{schedule_type!r} is unknown", where="schedule_type",
                            remedy=f"Use one of {', '.join(SCHEDULE_TYPES)}.")
    return sampler.own_grid or (sampler.automatic if schedule_type == AUTOMATIC else schedule_type)


def notices(name: str, schedule_type: str) -> list[str]:
    """What a user may not expect of a sampler with a schedule type."""
    if schedule_type == AUTOMATIC or not get(name).own_grid:
        return []
    return [f"the schedule type {schedule_type} has no effect with {name}, which has steps of its own"]


def times(grid: str, steps: int, sigmas) -> list[float]:
    """Timesteps of a grid, in the order of sampling, the first being the schedule's last (σmax).

    Uniform: from the last to 0, both included (k-diffusion's `get_sigmas`); SGM Uniform: the same without the end
    (Stability's generative-models); trailing: k/n of the schedule, the end not included (arXiv:2305.08891, table 2);
    Karras: ρ = 7 (arXiv:2206.00364, eq. 5); Exponential: even in log σ (k-diffusion's `get_sigmas_exponential`).
    """
    import numpy as np

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
