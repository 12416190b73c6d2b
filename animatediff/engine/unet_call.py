"""The denoiser of one window: a call of the UNet with what its frames are told."""
from __future__ import annotations

from collections.abc import Callable

import torch

from ..layout import ClipLayout, Group, Views
from ..motion import Steering
from ..motion.steering import SteerOf
from ..sampling.mixing import TravellingPrompt


class UNetCall:
    """Denoiser of one window: cond and uncond in one batch, [cond frames…, uncond frames…]; cond alone at CFG 1."""

    def __init__(self, unet, roles: list[TravellingPrompt], cfg: float, dtype: torch.dtype,
                 steering: Steering | None = None,
                 views_of: Callable[[Group, int], Views | None] = lambda frames, step: None):
        self.unet, self.roles, self.cfg, self.dtype = unet, roles, cfg, dtype
        self.layout = ClipLayout((), ())
        self.step, self.steps = 0, 1  # of the sampler, as told by whoever runs it
        self.steering = steering
        self.views_of = views_of  # of a call's frames, in a sampler step

    def layout_of(self, rows: int) -> ClipLayout:
        """Injection asks in every call of the UNet; the answer holds for the call under way."""
        return self.layout

    @property
    def steer_of(self) -> SteerOf | None:
        """For injection."""
        return self.steering and (lambda *site: self.steering.at(self.step, self.steps, *site))

    def __call__(self, x: torch.Tensor, t: torch.Tensor, frames: tuple[int, ...]) -> torch.Tensor:
        """x [f c h w] -> ε [f c h w] in float32."""
        self.layout = ClipLayout.contiguous(frames, len(self.roles), self.views_of(frames, self.step))
        prompts = torch.cat([role.of(frames) for role in self.roles])
        rows = torch.cat([x] * len(self.roles)).to(self.dtype)
        out = self.unet(rows, t.to(x.device), encoder_hidden_states=prompts.to(self.dtype)).sample.float()
        if len(self.roles) == 1:
            return out
        with_prompt, without = out.chunk(2)
        return without + self.cfg * (with_prompt - without)
