"""How often the WebUI's samplers call the denoiser in a pass, and the step of the window schedule of each call.

The windows of a call are those of its sampler step (see scope.py). So a second-order sampler computes the same windows
twice, except in the last step, from the lowest σ to 0.
"""
from __future__ import annotations

from dataclasses import dataclass

from animatediff.clip.sampled import Sampled
from animatediff.sampling.from_pictures import steps_done

TRAINING_STEPS = 1000


@dataclass(frozen=True)
class Sampler:
    """The properties of a host's sampler."""

    name: str = "Euler"
    second_order: bool = False  # two calls in a step (k-diffusion)
    timesteps: bool = False  # steps on a grid of whole timesteps, as DDIM (modules/sd_samplers_timesteps.py)
    spare_step: bool = False  # whether the host's option to leave out the penultimate σ is on

    def calls(self, steps: int, *, from_picture: bool = False) -> list[int] | None:
        """Return the step (0-based) of each call, or None if only the run itself can tell.

        steps: number of steps. With from_picture, those that are done, not those of the slider.
        from_picture: whether this is img2img or the Hires. pass.
        """
        if self.name == "DPM adaptive":
            return None
        if not self.timesteps:
            return [call // 2 for call in range(2 * steps - 1)] if self.second_order else list(range(steps))
        if from_picture:
            grid = steps - 1
        else:
            spacing = TRAINING_STEPS // (steps + self.spare_step)
            if not spacing:
                return None
            grid = len(range(0, TRAINING_STEPS, spacing))
        if self.name == "PLMS":  # two calls in its first step, and steps between the grid's points
            return list(range(grid if grid > 1 else 0))
        return list(range(grid if self.name == "UniPC" else max(grid - 1, 0)))

    def steps(self, steps: int, *, from_picture: bool = False) -> int:
        """Return the number of steps in which the denoiser is called. Arguments as in `calls`."""
        calls = self.calls(steps, from_picture=from_picture)
        return calls[-1] + 1 if calls else steps


@dataclass(frozen=True)
class Placed:
    """A run of a sampler with the step of each call. Implements clip.backend.Steps."""

    steps: int
    call_steps: list[int] | None


def placed(sampler: Sampler, sampled: Sampled) -> Placed:
    """Return a run of the WebUI's sampler with the step of each call."""
    steps, from_picture = sampled.done, sampled.from_picture
    return Placed(sampler.steps(steps, from_picture=from_picture), sampler.calls(steps, from_picture=from_picture))


def from_picture_steps(steps: int, strength: float, *, exact: bool = False) -> int:
    """Return the number of steps that img2img does (setup_img2img_steps in modules/sd_samplers_common.py).

    This is the later part of `steps`, or all of them with the host's option `exact`.
    """
    return steps if exact else steps_done(steps, strength)
