"""What the host asks the model in one call, for all frames of a clip at once, is asked window by window."""
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

# Makes a context from the frames of some windows and the number of roles; the call has rows [(role frame)].
AroundWindow = Callable[[Group, int], AbstractContextManager[None]]


class Run(call.Run, Protocol):
    """What is read of a sampling pass besides."""

    around_window: Sequence[AroundWindow]


def of_rows_call(run: Run, rows: Rows, of_rows: Callable[[Tensor, Tensor], Tensor], steps: int) -> WindowCall:
    """Denoiser of windows x [(window frame) (role c) h w] -> the same shape, in one call of the host's.

    of_rows(x [n c h w], numbers of these rows in the host's batch [n]): the model's answer, the same shape.
    steps: in which the model is called in this run of the sampler.
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
