"""What the host asks the model in one call, for all frames of a clip at once, is asked window by window."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from itertools import chain
from typing import Protocol

from torch import Tensor

from animatediff.hosts.shared.cfg_rows import Rows
from animatediff.layout import ClipLayout, Group, Views
from animatediff.sampling.memory import WhileSampling
from animatediff.settings import Settings
from animatediff.unet.reuse import Reuse

NOTHING = ClipLayout((), ())
# Makes a context from the frames of some windows and the number of roles; the call has rows [(role frame)].
AroundWindow = Callable[[Group, int], AbstractContextManager[None]]


class Run(Protocol):
    """What is read of a sampling pass, and the layout that is told to it."""

    settings: Settings
    memory: WhileSampling
    reuse: Reuse
    around_window: Sequence[AroundWindow]
    step: int  # of the sampler, of the call that is under way
    layout: ClipLayout


class UNetCall:
    """Denoiser of windows in one call of the host's.

    of_rows(x [n c h w], numbers of these rows in the host's batch [n]): the model's answer, the same shape.
    steps: in which the model is called in this run of the sampler.
    """

    def __init__(self, run: Run, rows: Rows, of_rows: Callable[[Tensor, Tensor], Tensor], steps: int):
        self.run, self.rows, self.of_rows, self.steps = run, rows, of_rows, steps

    def __call__(self, x: Tensor, t: Tensor, *windows: Group) -> Tensor:
        """x [(window frame) (role c) h w] -> the same shape."""
        return self.run.memory.of_windows(lambda x, some: self._answers(x, t, some), x, windows)

    def _answers(self, x: Tensor, t: Tensor, windows: Sequence[Group]) -> Tensor:
        frames = tuple(chain.from_iterable(windows))
        by_role = x.unflatten(1, (self.rows.roles, -1))

        def call(asked: Sequence[int]) -> Tensor:
            return self.run.memory.of_roles(
                lambda some: self._of_roles(by_role[:, list(some)], windows, frames, some), asked)

        out = self.run.reuse.answers(frames, self.rows.roles, self.run.step, self.steps, t, call)
        return out.transpose(0, 1).flatten(1, 2)

    def _of_roles(self, x: Tensor, windows: Sequence[Group], frames: Group, chosen: Sequence[int]) -> Tensor:
        """x [(window frame) role c h w] -> [role (window frame) c h w] of some roles, in one call of the model."""
        run = self.run
        views = Views.of(run.settings, len(self.rows.table), frames, run.step)
        rows = self.rows.table[list(frames)][:, list(chosen)].T.flatten()
        run.layout = ClipLayout.stacked([*windows] * len(chosen), views)
        run.reuse.shows(frames, chosen)
        try:
            with ExitStack() as stack:
                for enter in run.around_window:
                    stack.enter_context(enter(frames, len(chosen)))
                out = self.of_rows(x.transpose(0, 1).flatten(0, 1), rows)
        finally:
            run.layout = NOTHING
        return out.unflatten(0, (len(chosen), -1)).to(x.dtype)
