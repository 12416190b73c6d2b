"""One call of a denoiser of windows: which calls of the UNet it takes, and what each of them is told."""
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
# x [(window frame) …], windows, numbers of roles -> [role (window frame) c h w], in one call of the UNet.
Ask = Callable[[Tensor, Sequence[Group], Sequence[int]], Tensor]


class Run(Protocol):
    """What is read of a run of the sampler, and the layout of the call of the UNet under way, which is told to it."""

    settings: Settings
    memory: WhileSampling
    reuse: Reuse
    step: int  # of the sampler, counted from 0, that the call belongs to
    layout: ClipLayout


class WindowCall:
    """Denoiser of windows: role 0 is a prompt, and the last one may be the negative prompt.

    frames: of the clip. steps: of the sampler, in which the UNet is called. ask: asks the UNet for some roles. joined:
    makes the denoiser's answer [(window frame) …] of [role (window frame) c h w]; guidance may be there.
    """

    def __init__(self, run: Run, frames: int, roles: int, steps: int, ask: Ask, joined: Callable[[Tensor], Tensor]):
        self.run, self.frames, self.roles, self.steps = run, frames, roles, steps
        self.ask, self.joined = ask, joined

    def __call__(self, x: Tensor, t: Tensor, *windows: Group) -> Tensor:
        """x [(window frame) …], t: the timesteps -> the answer, in calls as small as memory wants them."""
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
