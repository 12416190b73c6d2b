"""DPM-Solver++ (stochastic) of second order, singlestep: `DPM++ SDE` of the WebUI.

The method is k-diffusion's `sample_dpmpp_sde` with r = 1/2 and η = 1 (DPM-Solver++, arXiv:2211.01095; ancestral steps,
arXiv:2206.00364's notation). Both noises of a step are increments of one Brownian motion over σ, which starts anew in
each step; since steps do not overlap, that is the motion over the whole run that k-diffusion takes from a tree.
"""
from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor


@dataclass
class Result:
    """`prev_sample`: the latents of the next call. `pred_original_sample`: the estimate of x₀."""

    prev_sample: Tensor
    pred_original_sample: Tensor


def midpoints(sigmas: list[float]) -> list[float]:
    """σ of each call: that of the step, and between it and the next one's, in the middle of log σ. The last step, to 0,
    is one call. `sigmas`: of the steps, without the 0 behind them."""
    levels = [sigmas[0]]
    for here, there in itertools.pairwise(sigmas):
        levels += [(here * there) ** 0.5, there]
    return levels


class DPMSolverSDE:
    """A solver with diffusers' interface, on latents x₀ + σε. `sigmas`: of each call, and 0 behind the last one."""

    def __init__(self, prediction_type: str):
        self.prediction_type = prediction_type
        self.sigmas: Tensor = torch.zeros(1)
        self.timesteps: Tensor = torch.zeros(0)
        self.call = 0
        self.begun: Tensor | None = None  # x at the beginning of the step that is under way
        self.noise: Tensor | None = None  # the Brownian motion's increment from there to the middle, of unit size

    def set_begin_index(self, call: int) -> None:
        self.call = call

    def scale_model_input(self, x: Tensor, t: Tensor) -> Tensor:
        """x₀ + σε -> αx₀ + σε of unit variance, which networks are trained on."""
        return x / (float(self.sigmas[self.call]) ** 2 + 1) ** 0.5

    def step(self, out: Tensor, t: Tensor, x: Tensor,
             generator: torch.Generator | list[torch.Generator] | None = None) -> Result:
        """out [f c h w]: what the network says of the scaled x [f c h w]."""
        sigma = float(self.sigmas[self.call])
        clean = self._clean(out, x, sigma)
        if self.begun is not None and self.noise is not None:  # in the middle of a step
            before, there = float(self.sigmas[self.call - 1]), float(self.sigmas[self.call + 1])
            x, fresh = self.begun, randn_tensor(x.shape, generator, x.device, x.dtype)
            # Increments add up: over σ, from `before` to `sigma` and from there to `there`.
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
        if self.prediction_type == "v_prediction":  # v = αε − σx₀ (arXiv:2202.00512, appendix D)
            return x / (sigma**2 + 1) - out * sigma / (sigma**2 + 1) ** 0.5
        return x - sigma * out


def _moved(x: Tensor, clean: Tensor, here: float, there: float, noise: Tensor) -> Tensor:
    """From level `here` to `there`, if x₀ is `clean`: down to a lower level, and up by noise of unit size."""
    up = min(there, there * (1 - there**2 / here**2) ** 0.5)
    down = (there**2 - up**2) ** 0.5
    return down / here * x + (1 - down / here) * clean + up * noise
