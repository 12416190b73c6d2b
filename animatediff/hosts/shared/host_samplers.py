"""How often the WebUI's samplers call the denoiser in a pass, and at which step of the window schedule.

The windows of a call are those of the sampler step that it belongs to (see scope.py), so a second-order sampler
computes the same windows twice, and the last step, from the lowest σ to 0, once.
"""
from __future__ import annotations

from dataclasses import dataclass

from animatediff.clip.sampled import Sampled
from animatediff.sampling.from_pictures import steps_done

TRAINING_STEPS = 1000


@dataclass(frozen=True)
class Sampler:
    """`second_order`: k-diffusion's with two calls in a step. `timesteps`: DDIM and its kin, which take their steps
    from a grid of whole timesteps (modules/sd_samplers_timesteps.py). `spare_step`: the host's option to leave out
    the penultimate σ is on."""

    name: str = "Euler"
    second_order: bool = False
    timesteps: bool = False
    spare_step: bool = False

    def calls(self, steps: int, *, from_picture: bool = False) -> list[int] | None:
        """The step (0-based) of each call; None where only the run itself can tell.

        `from_picture`: img2img and the Hires. pass, where `steps` are those that are done, not those of the slider.
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
        """Steps in which the denoiser is called; arguments as of `calls`."""
        calls = self.calls(steps, from_picture=from_picture)
        return calls[-1] + 1 if calls else steps


@dataclass(frozen=True)
class Placed:
    """A run of a sampler with its steps placed: clip.backend.Steps."""

    steps: int
    call_steps: list[int] | None


def placed(sampler: Sampler, sampled: Sampled) -> Placed:
    """A run of the WebUI's sampler, as it is asked for."""
    steps, from_picture = sampled.done, sampled.from_picture
    return Placed(sampler.steps(steps, from_picture=from_picture), sampler.calls(steps, from_picture=from_picture))


def from_picture_steps(steps: int, strength: float, *, exact: bool = False) -> int:
    """Steps that img2img does (modules/sd_samplers_common.py, setup_img2img_steps): the later part of `steps`, or all
    of them with the host's option `exact`."""
    return steps if exact else steps_done(steps, strength)
