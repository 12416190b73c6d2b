"""Denoise windows with diffusers' UNet: prompts for each frame, and classifier-free guidance."""
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
    """A denoiser of windows.

    A UNet call has cond and uncond in one batch, [cond frames…, uncond frames…], or only cond at CFG 1. When memory
    runs out, `memory` splits it into calls for each window, and for cond and uncond.

    prompts: the conditioning of each role.
    Attributes `step` and `steps` are those of the sampler. The caller sets them before each call.
    """

    def __init__(self, unet, settings: Settings, prompts: list[TravellingPrompt], dtype: torch.dtype,
                 memory: WhileSampling, steering: Steering | None = None):
        self.unet, self.settings, self.prompts, self.dtype = unet, settings, prompts, dtype
        self.memory, self.reuse, self.steering = memory, Reuse(settings.speed), steering
        self.layout: ClipLayout = NOTHING
        self.step, self.steps = 0, 1

    @property
    def steer_of(self) -> SteerOf | None:
        """The motion module's steering for `injected`, or None."""
        steering = self.steering
        return steering and (lambda *site: steering.at(self.step, self.steps, *site))

    def __call__(self, x: Tensor, t: Tensor, *windows: Group) -> Tensor:
        """Return the guided prediction in float32, with the shape of x [(window frame) c h w]."""

        def ask(x: Tensor, windows: Sequence[Group], chosen: Sequence[int]) -> Tensor:
            prompts = torch.cat([self.prompts[role].of(window) for role in chosen for window in windows])
            rows = torch.cat([x] * len(chosen)).to(self.dtype)
            out = self.unet(rows, t.to(x.device), encoder_hidden_states=prompts.to(self.dtype)).sample.float()
            return out.unflatten(0, (len(chosen), -1))

        return WindowCall(self, self.settings.frames, len(self.prompts), self.steps, ask, self._guided)(x, t, *windows)

    def _guided(self, out: Tensor) -> Tensor:
        """Return [f c h w] for [role f c h w] (classifier-free guidance, arXiv:2207.12598, eq. 6)."""
        if len(out) == 1:
            return out[0]
        with_prompt, without = out
        return without + self.settings.cfg * (with_prompt - without)
