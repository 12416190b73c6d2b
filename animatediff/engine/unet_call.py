"""The denoiser of windows on diffusers' UNet: prompts for each frame, and guidance."""
from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from animatediff.clip.call import NOTHING, WindowCall
from animatediff.layout import ClipLayout, Group
from animatediff.motion import Steering
from animatediff.motion.steering import SteerOf
from animatediff.sampling.memory import WhileSampling
from animatediff.sampling.mixing import TravellingPrompt
from animatediff.settings import Settings
from animatediff.unet.reuse import Reuse


class UNetCall:
    """Denoiser of windows, mostly one: cond and uncond in one batch, [cond frames…, uncond frames…]; cond alone at
    CFG 1. Where memory is short, `memory` says that there is a call for each window, and for each of cond and uncond.

    prompts: of each role. `step`, `steps`: of the sampler, as told by whoever runs it.
    """

    def __init__(self, unet, settings: Settings, prompts: list[TravellingPrompt], dtype: torch.dtype,
                 memory: WhileSampling, steering: Steering | None = None):
        self.unet, self.settings, self.prompts, self.dtype = unet, settings, prompts, dtype
        self.memory, self.reuse, self.steering = memory, Reuse(settings.speed), steering
        self.layout: ClipLayout = NOTHING
        self.step, self.steps = 0, 1

    @property
    def steer_of(self) -> SteerOf | None:
        """For injection."""
        steering = self.steering
        return steering and (lambda *site: steering.at(self.step, self.steps, *site))

    def __call__(self, x: Tensor, t: Tensor, *windows: Group) -> Tensor:
        """x [(window frame) c h w] -> ε, the same shape, in float32."""

        def ask(x: Tensor, windows: Sequence[Group], chosen: Sequence[int]) -> Tensor:
            prompts = torch.cat([self.prompts[role].of(window) for role in chosen for window in windows])
            rows = torch.cat([x] * len(chosen)).to(self.dtype)
            out = self.unet(rows, t.to(x.device), encoder_hidden_states=prompts.to(self.dtype)).sample.float()
            return out.unflatten(0, (len(chosen), -1))

        return WindowCall(self, self.settings.frames, len(self.prompts), self.steps, ask, self._guided)(x, t, *windows)

    def _guided(self, out: Tensor) -> Tensor:
        """[role f c h w] -> [f c h w] (classifier-free guidance, arXiv:2207.12598, eq. 6)."""
        if len(out) == 1:
            return out[0]
        with_prompt, without = out
        return without + self.settings.cfg * (with_prompt - without)
