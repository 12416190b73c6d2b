"""Registry of samplers and schedule types, under the WebUI's names.

The table of settings takes its choices from it, and the engine its solvers.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from animatediff.errors import SettingsError, quoted


@dataclass(frozen=True)
class Sampler:
    """A sampler and the solver that it runs on."""

    name: str
    solver: str  # class name of a diffusers scheduler, or OWN_SOLVER
    automatic: str = "Uniform"  # the WebUI's schedule type for Automatic
    options: tuple[tuple[str, Any], ...] = ()  # arguments of the diffusers scheduler
    own_grid: str = ""  # the timestep grid of a sampler that ignores schedule types
    variance_exploding: bool = False  # whether the solver's latents are x₀ + σε (as Euler's) rather than αx₀ + σε
    stochastic: bool = False  # whether each step adds noise


OWN_SOLVER = "DPMSolverSDE"
AUTOMATIC = "Automatic"
SCHEDULE_TYPES = (AUTOMATIC, "Uniform", "Karras", "Exponential", "SGM Uniform")
# Names in WebUIs before 1.9, which include the schedule type. They are read as the sampler with Automatic.
OLDER_SAMPLERS = (("DPM++ 2M Karras", "DPM++ 2M"), ("DPM++ SDE Karras", "DPM++ SDE"),
                  ("DPM++ 2M SDE Exponential", "DPM++ 2M SDE"))
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
    """Return the sampler with this name. Raise SettingsError if there is none."""
    if name not in SAMPLERS:
        raise SettingsError(f"{quoted(name)} is unknown", where="sampler", remedy=f"Use one of {', '.join(SAMPLERS)}.")
    return SAMPLERS[name]


def grid_of(sampler: Sampler, schedule_type: str) -> str:
    """Return the sampler's timestep grid: its own, or a schedule type. Raise SettingsError for an unknown type."""
    if schedule_type not in SCHEDULE_TYPES:
        raise SettingsError(f"{quoted(schedule_type)} is unknown", where="schedule_type",
                            remedy=f"Use one of {', '.join(SCHEDULE_TYPES)}.")
    return sampler.own_grid or (sampler.automatic if schedule_type == AUTOMATIC else schedule_type)


def notices(name: str, schedule_type: str) -> list[str]:
    """Return a notice if the schedule type has no effect with this sampler."""
    if schedule_type == AUTOMATIC or not get(name).own_grid:
        return []
    return [f"the schedule type {schedule_type} has no effect with {name}, which has its own timesteps"]
