"""The samplers and schedule types that there are, under the WebUI's names: one registry, which settings take their
choices from and the engine its solvers."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from animatediff.errors import SettingsError, quoted


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
# Names of WebUIs before 1.9, which had the schedule type in the sampler's name. Here they mean what Automatic does.
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
    if name not in SAMPLERS:
        raise SettingsError(f"{quoted(name)} is unknown", where="sampler", remedy=f"Use one of {', '.join(SAMPLERS)}.")
    return SAMPLERS[name]


def grid_of(sampler: Sampler, schedule_type: str) -> str:
    """How the sampler's steps are placed: its own grid, or a schedule type. SettingsError for an unknown type."""
    if schedule_type not in SCHEDULE_TYPES:
        raise SettingsError(f"{quoted(schedule_type)} is unknown", where="schedule_type",
                            remedy=f"Use one of {', '.join(SCHEDULE_TYPES)}.")
    return sampler.own_grid or (sampler.automatic if schedule_type == AUTOMATIC else schedule_type)


def notices(name: str, schedule_type: str) -> list[str]:
    """What a user may not expect of a sampler with a schedule type."""
    if schedule_type == AUTOMATIC or not get(name).own_grid:
        return []
    return [f"the schedule type {schedule_type} has no effect with {name}, which has its own timesteps"]
