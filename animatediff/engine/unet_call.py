"""The denoiser of one window: a call of the UNet with what its frames are told."""
from __future__ import annotations

from collections.abc import Sequence

import torch

from ..layout import ClipLayout
from ..motion import Steering
from ..motion.reuse import Reuse
from ..motion.steering import SteerOf
from ..sampling.mixing import TravellingPrompt


class UNetCall:
    """Denoiser of one window: cond and uncond in one batch, [cond frames…, uncond frames…]; cond alone at CFG 1."""

    def __init__(self, unet, roles: list[TravellingPrompt], cfg: float, dtype: torch.dtype,
                 steering: Steering | None = None, reuse: Reuse | None = None):
        self.unet, self.roles, self.cfg, self.dtype = unet, roles, cfg, dtype
        self.layout = ClipLayout((), ())
        self.step, self.steps = 0, 1  # of the sampler, as told by whoever runs it
        self.steering = steering
        self.reuse = reuse or Reuse("exact")

    def layout_of(self, rows: int) -> ClipLayout:
        """Injection asks in every call of the UNet; the answer holds for the call under way."""
        return self.layout

    @property
    def steer_of(self) -> SteerOf | None:
        """For injection."""
        return self.steering and (lambda *site: self.steering.at(self.step, self.steps, *site))

    def __call__(self, x: torch.Tensor, t: torch.Tensor, frames: tuple[int, ...]) -> torch.Tensor:
        """x [f c h w] -> ε [f c h w] in float32."""
        def of_roles(chosen: Sequence[int]) -> torch.Tensor:
            self.layout = ClipLayout.contiguous(frames, groups=len(chosen))
            self.reuse.shows(frames, chosen)
            prompts = torch.cat([self.roles[role].of(frames) for role in chosen])
            rows = torch.cat([x] * len(chosen)).to(self.dtype)
            out = self.unet(rows, t.to(x.device), encoder_hidden_states=prompts.to(self.dtype)).sample.float()
            return out.unflatten(0, (len(chosen), -1))

        out = self.reuse.answers(frames, len(self.roles), self.step, self.steps, t, of_roles)
        if len(self.roles) == 1:
            return out[0]
        with_prompt, without = out
        return without + self.cfg * (with_prompt - without)
