"""What a run does with the memory that there is, and what it gives up, in a fixed order, where that does not do.

While sampling: windows per call, then cond and uncond in one call, then attention at once, then the networks that wait
on the device. While decoding: pictures per call, then the networks that wait. A call that ran out of memory is made
again one rung further down, so the run goes on behind its last finished call, with the same numbers.
"""
from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from animatediff.layout import Group
from animatediff.motion import MotionModule
from animatediff.motion.in_parts import in_parts

MOST_WINDOWS, MOST_PICTURES = 2, 8  # in a call, where memory is no limit; more windows gain little or lose
SHARE = 0.8  # of the free memory, which is in pieces
OutOfMemoryError = torch.cuda.OutOfMemoryError  # torch 2.1, the WebUI's, has it under this name alone
T = TypeVar("T")


def is_shortage(error: BaseException) -> bool:
    """Whether memory did not do: of a GPU, of the host by Python, or by torch,
    which has no class of its own for that."""
    if isinstance(error, (OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(
        words in str(error) for words in ("DefaultCPUAllocator", "not enough memory", "out of memory", "ALLOC_FAILED"))


def fits(device: torch.device, work: Callable[[], T], most: int) -> tuple[T, int]:
    """What `work` returns, and how many of its kind, `most` at most, fit into the memory that is free now, by what it
    took. One at a time where there is no telling, and on a CPU, where more gain nothing."""
    if device.type != "cuda":
        return work(), 1
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    result = work()
    taken = torch.cuda.max_memory_allocated(device) - before
    spare = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    free = torch.cuda.mem_get_info(device)[0] + spare
    return result, max(1, min(most, int(SHARE * free / max(taken, 1))))


class Memory:
    """`with` it, calls are made by `memory(work)`, which repeats what ran out of memory. Leaving the block undoes what
    was changed for that in the networks.

    told: of every rung that is taken, in words. waiting: gives the networks that these calls have no use for.
    `at_once`: of what a call may hold several. Where that is not given, it is one until the first call has shown how
    many fit; where that call ran out of memory, it stays so.
    """

    most, what = 1, ""

    def __init__(self, device: torch.device, told: Callable[[str], None], waiting: Callable[[], Iterable[Any]],
                 at_once: int = 0):
        self.device, self.told, self.waiting = device, told, waiting
        self.measured, self.at_once, self.short = at_once > 0, at_once or 1, False
        self.rungs = [self._fewer, *self.own_rungs(), self._away]
        self.undo = ExitStack()

    def own_rungs(self) -> list[Callable[[], str]]:
        """Between fewer in a call and networks that wait. Each makes calls smaller and says how,
        or "" where it cannot."""
        return []

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *error: object) -> None:
        self.undo.close()

    def __call__(self, work: Callable[[], T]) -> T:
        if self.measured:
            return self._repeated(work)
        self.measured = True
        result, fitting = fits(self.device, lambda: self._repeated(work), self.most)
        if not self.short:
            self.at_once = fitting
        return result

    def _repeated(self, work: Callable[[], T]) -> T:
        while True:
            try:
                return work()
            except (RuntimeError, MemoryError) as error:
                if not is_shortage(error):
                    raise
                shortage = error.with_traceback(None)  # its frames hold what is to be freed
            self._down(shortage)

    def _down(self, shortage: BaseException) -> None:
        self.short = True
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        while self.rungs:
            if said := self.rungs[0]():
                self.told(said)
                return
            del self.rungs[0]
        if isinstance(shortage, OutOfMemoryError):
            raise shortage
        raise OutOfMemoryError(str(shortage)) from shortage

    def _fewer(self) -> str:
        if self.at_once == 1:
            return ""
        self.at_once //= 2
        return f"{self.what} {'one by one' if self.at_once == 1 else f'{self.at_once} at once'}"

    def _away(self) -> str:
        """Networks that are not used now wait in the host's memory."""
        there = [(network, place) for network in self.waiting()
                 if network and (place := _device_of(network)).type != "cpu"]
        for network, place in there:
            self.undo.callback(network.to, place)
            network.to("cpu")
        return "networks that are not in use are kept in main memory" if there else ""


def _device_of(network: Any) -> torch.device:
    """Of its weights: some text encoders' `device` is a name that they were given once."""
    return next(network.parameters()).device if isinstance(network, nn.Module) else network.device


class WhileSampling(Memory):
    """`at_once`: windows. `apart`: cond and uncond each have a call. `in_parts`: attention takes rows in turns."""

    most, what = MOST_WINDOWS, "windows are denoised"

    def __init__(self, device: torch.device, told: Callable[[str], None], waiting: Callable[[], Iterable[Any]],
                 at_once: int, unet: nn.Module, module: MotionModule | None, apart: bool = False):
        super().__init__(device, told, waiting, at_once)
        self.unet, self.module = unet, module
        self.apart, self.in_parts = apart, False

    def own_rungs(self) -> list[Callable[[], str]]:
        return [self._roles_apart, self._attention_in_parts]

    def of_windows(self, work: Callable[[Tensor, Sequence[Group]], Tensor], x: Tensor,
                   windows: Sequence[Group]) -> Tensor:
        """x [(window frame) …] -> the same: what `work` makes of the rows of some windows,
        at most `at_once` of them."""
        some: Sequence[Group] = ()
        done: list[Tensor] = []

        def call() -> Tensor:
            nonlocal some
            some = windows[: self.at_once]
            return work(x[: sum(map(len, some))], some)

        while windows:
            done.append(self(call))
            x, windows = x[len(done[-1]) :], windows[len(some) :]
        return done[0] if len(done) == 1 else torch.cat(done)

    def of_roles(self, work: Callable[[Sequence[int]], Tensor], roles: Sequence[int]) -> Tensor:
        """[role …]: what `work` makes of some of the roles, in one call or one by one."""
        return torch.cat([work([role]) for role in roles]) if self.apart else work(roles)

    def _roles_apart(self) -> str:
        if self.apart:
            return ""
        self.apart = True
        return "prompt and negative prompt are denoised apart"

    def _attention_in_parts(self) -> str:
        if self.in_parts:
            return ""
        self.in_parts = True
        self.undo.enter_context(in_parts(self.unet, self.module))
        return "attention is computed in parts"


class WhileDecoding(Memory):
    """`at_once`: pictures."""

    most, what = MOST_PICTURES, "pictures are decoded"
