"""The denoiser of context windows: splits one denoiser call into UNet calls and sets the layout of each."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Protocol

from torch import Tensor

from animatediff.layout import ClipLayout, Group, Views
from animatediff.sampling.memory import WhileSampling
from animatediff.settings import Settings
from animatediff.unet.reuse import Reuse

NOTHING = ClipLayout((), ())
# One UNet call. Takes x [(window frame) …], windows and role numbers, returns [role (window frame) c h w].
Ask = Callable[[Tensor, Sequence[Group], Sequence[int]], Tensor]


class Run(Protocol):
    """The state of a sampler run that a window call reads. The call writes `layout`."""

    settings: Settings
    memory: WhileSampling
    reuse: Reuse
    step: int  # current sampler step, counted from 0
    layout: ClipLayout  # layout of the current UNet call


class WindowCall:
    """Denoiser of context windows. Role 0 is a prompt; the last role may be the negative prompt.

    frames: number of frames in the clip.
    roles: number of roles.
    steps: number of sampler steps that call the UNet.
    ask: calls the UNet for some of the roles.
    joined: combines the roles, [role (window frame) c h w], into the denoiser's output [(window frame) …]. Guidance
    can be applied there.
    """

    def __init__(self, run: Run, frames: int, roles: int, steps: int, ask: Ask, joined: Callable[[Tensor], Tensor]):
        self.run, self.frames, self.roles, self.steps = run, frames, roles, steps
        self.ask, self.joined = ask, joined

    def __call__(self, x: Tensor, t: Tensor, *windows: Group) -> Tensor:
        """Denoise x [(window frame) …] at the timesteps t. The windows are split into calls that fit into memory."""
        return self.run.memory.of_windows(lambda x, some: self._answer(x, t, some), x, windows)

    def _answer(self, x: Tensor, t: Tensor, windows: Sequence[Group]) -> Tensor:
        frames = tuple(chain.from_iterable(windows))

        def call(asked: Sequence[int]) -> Tensor:
            return self.run.memory.of_roles(lambda some: self._of_roles(x, windows, frames, some), asked)

        return self.joined(self.run.reuse.answers(frames, self.roles, self.run.step, self.steps, t, call))

    def _of_roles(self, x: Tensor, windows: Sequence[Group], frames: Group, chosen: Sequence[int]) -> Tensor:
        run = self.run
        views = Views.of(run.settings, self.frames, frames, run.step)
        run.layout = ClipLayout.stacked([*windows] * len(chosen), views)
        run.reuse.shows(frames, chosen)
        try:
            return self.ask(x, windows, chosen)
        finally:
            run.layout = NOTHING
