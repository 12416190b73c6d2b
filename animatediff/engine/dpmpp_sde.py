"""DPM-Solver++ (stochastic) of second order, singlestep: `DPM++ SDE` of the WebUI.

The method is k-diffusion's `sample_dpmpp_sde` with r = 1/2 and η = 1 (DPM-Solver++, arXiv:2211.01095; ancestral steps
in the notation of arXiv:2206.00364). The two noises of a step are increments of a Brownian motion over σ. Here the
motion starts anew in each step. Since steps do not overlap, this is equivalent to k-diffusion's Brownian tree over the
whole run.
"""
from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor


@dataclass
class Result:
    """The result of a call, with the names of diffusers' schedulers."""

    prev_sample: Tensor  # latents for the next call
    pred_original_sample: Tensor  # estimate of x₀


def midpoints(sigmas: list[float]) -> list[float]:
    """Return σ of each call: the step's σ, then the midpoint to the next step's in log σ. The last step has one call.

    sigmas: σ of each step, without the final 0.
    """
    levels = [sigmas[0]]
    for here, there in itertools.pairwise(sigmas):
        levels += [(here * there) ** 0.5, there]
    return levels


class DPMSolverSDE:
    """A solver with the interface of diffusers' schedulers, on latents x₀ + σε."""

    def __init__(self, prediction_type: str):
        self.prediction_type = prediction_type
        self.sigmas: Tensor = torch.zeros(1)  # σ of each call, and a final 0
        self.timesteps: Tensor = torch.zeros(0)
        self.call = 0
        self.begun: Tensor | None = None  # in the middle of a step: x at its beginning
        self.noise: Tensor | None = None  # the Brownian motion's increment since then, scaled to unit variance

    def set_begin_index(self, call: int) -> None:
        self.call = call

    def scale_model_input(self, x: Tensor, t: Tensor) -> Tensor:
        """Return x₀ + σε scaled to unit variance, αx₀ + σε, as networks are trained on."""
        return x / (float(self.sigmas[self.call]) ** 2 + 1) ** 0.5

    def step(self, out: Tensor, t: Tensor, x: Tensor,
             generator: torch.Generator | list[torch.Generator] | None = None) -> Result:
        """Return the latents after this call. out: the network's output for the scaled x; both are [f c h w]."""
        sigma = float(self.sigmas[self.call])
        clean = self._clean(out, x, sigma)
        if self.begun is not None and self.noise is not None:  # in the middle of a step
            before, there = float(self.sigmas[self.call - 1]), float(self.sigmas[self.call + 1])
            x, fresh = self.begun, randn_tensor(x.shape, generator, x.device, x.dtype)
            # The sum of the increments from `before` to `sigma` and from `sigma` to `there`, scaled to unit variance.
            noise = (self.noise * (before - sigma) ** 0.5 + fresh * (sigma - there) ** 0.5) / (before - there) ** 0.5
            self.begun = self.noise = None
            x = _moved(x, clean, before, there, noise)
        elif float(self.sigmas[self.call + 1]) == 0:
            x = clean
        else:
            self.begun, self.noise = x, randn_tensor(x.shape, generator, x.device, x.dtype)
            x = _moved(x, clean, sigma, float(self.sigmas[self.call + 1]), self.noise)
        self.call += 1
        return Result(x, clean)

    def _clean(self, out: Tensor, x: Tensor, sigma: float) -> Tensor:
        """Return the estimate of x₀."""
        if self.prediction_type == "v_prediction":  # v = αε − σx₀ (arXiv:2202.00512, appendix D)
            return x / (sigma**2 + 1) - out * sigma / (sigma**2 + 1) ** 0.5
        return x - sigma * out


def _moved(x: Tensor, clean: Tensor, here: float, there: float, noise: Tensor) -> Tensor:
    """Return x moved from the noise level `here` to `there` with an ancestral step.

    The step goes down to a lower level than `there`, and up to it with noise. clean: estimate of x₀. noise: of unit
    variance.
    """
    up = min(there, there * (1 - there**2 / here**2) ** 0.5)
    down = (there**2 - up**2) ** 0.5
    return down / here * x + (1 - down / here) * clean + up * noise
