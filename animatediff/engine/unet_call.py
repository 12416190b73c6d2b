"""The denoiser of windows: a call of the UNet with what its frames are told."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain

import torch

from animatediff.layout import ClipLayout, Group, Views
from animatediff.motion import Steering
from animatediff.motion.steering import SteerOf
from animatediff.sampling.memory import WhileSampling
from animatediff.sampling.mixing import TravellingPrompt
from animatediff.unet.reuse import Reuse


class UNetCall:
    """Denoiser of windows, mostly one: cond and uncond in one batch, [cond frames…, uncond frames…];
    cond alone at CFG 1. Where memory is short, `memory` says that there is a call for each window,
    and for each of cond and uncond."""

    def __init__(self, unet, roles: list[TravellingPrompt], cfg: float, dtype: torch.dtype, memory: WhileSampling,
                 steering: Steering | None = None,
                 views_of: Callable[[Group, int], Views | None] = lambda frames, step: None,
                 reuse: Reuse | None = None):
        self.unet, self.roles, self.cfg, self.dtype = unet, roles, cfg, dtype
        self.memory = memory
        self.layout = ClipLayout((), ())
        self.step, self.steps = 0, 1  # of the sampler, as told by whoever runs it
        self.steering = steering
        self.views_of = views_of  # of a call's frames, in a sampler step
        self.reuse = reuse or Reuse("exact")

    def layout_of(self, rows: int) -> ClipLayout:
        """Injection asks in every call of the UNet; the answer holds for the call under way."""
        return self.layout

    @property
    def steer_of(self) -> SteerOf | None:
        """For injection."""
        return self.steering and (lambda *site: self.steering.at(self.step, self.steps, *site))

    def __call__(self, x: torch.Tensor, t: torch.Tensor, *windows: Group) -> torch.Tensor:
        """x [(window frame) c h w] -> ε, the same shape, in float32."""
        return self.memory.of_windows(lambda x, some: self._guided(x, t, some), x, windows)

    def _guided(self, x: torch.Tensor, t: torch.Tensor, windows: Sequence[Group]) -> torch.Tensor:
        frames = tuple(chain.from_iterable(windows))

        def call(chosen: Sequence[int]) -> torch.Tensor:
            return self.memory.of_roles(lambda some: self._of_roles(x, t, windows, some), chosen)

        out = self.reuse.answers(frames, len(self.roles), self.step, self.steps, t, call)
        if len(self.roles) == 1:
            return out[0]
        with_prompt, without = out
        return without + self.cfg * (with_prompt - without)

    def _of_roles(self, x: torch.Tensor, t: torch.Tensor, windows: Sequence[Group],
                  chosen: Sequence[int]) -> torch.Tensor:
        """[role (window frame) c h w] of some roles, in one call."""
        views = self.views_of(windows[0], self.step)  # of the whole clip, which has a call to itself
        self.layout = ClipLayout.stacked([*windows] * len(chosen), views)
        self.reuse.shows(tuple(chain.from_iterable(windows)), chosen)
        prompts = torch.cat([self.roles[role].of(window) for role in chosen for window in windows])
        rows = torch.cat([x] * len(chosen)).to(self.dtype)
        out = self.unet(rows, t.to(x.device), encoder_hidden_states=prompts.to(self.dtype)).sample.float()
        return out.unflatten(0, (len(chosen), -1))
