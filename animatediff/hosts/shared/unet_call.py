"""Splitting the host's model call for all frames of a clip into one call per window."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from itertools import chain
from typing import Protocol

from torch import Tensor

from animatediff.clip import call
from animatediff.clip.call import WindowCall
from animatediff.hosts.shared.cfg_rows import Rows
from animatediff.layout import Group

# (frames of some windows, number of roles) -> context for their call, which has rows [(role frame)].
AroundWindow = Callable[[Group, int], AbstractContextManager[None]]


class Run(call.Run, Protocol):
    """The part of a sampling pass that these calls use."""

    around_window: Sequence[AroundWindow]


def of_rows_call(run: Run, rows: Rows, of_rows: Callable[[Tensor, Tensor], Tensor], steps: int) -> WindowCall:
    """Return the denoiser of windows x [(window frame) (role c) h w] -> same shape, computed by one call of the host.

    of_rows: takes x [n c h w] and the indices [n] of its rows in the host's batch. Returns the model's output, same
        shape.
    steps: number of steps in which this run of the sampler calls the model.
    """
    def ask(x: Tensor, windows: Sequence[Group], chosen: Sequence[int]) -> Tensor:
        frames = tuple(chain.from_iterable(windows))
        x = x.unflatten(1, (rows.roles, -1))[:, list(chosen)]
        numbers = rows.table[list(frames)][:, list(chosen)].T.flatten()
        with ExitStack() as stack:
            for enter in run.around_window:
                stack.enter_context(enter(frames, len(chosen)))
            out = of_rows(x.transpose(0, 1).flatten(0, 1), numbers)
        return out.unflatten(0, (len(chosen), -1)).to(x.dtype)

    return WindowCall(run, len(rows.table), rows.roles, steps, ask, lambda out: out.transpose(0, 1).flatten(1, 2))
