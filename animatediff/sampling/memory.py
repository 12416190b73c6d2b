"""Fallbacks when memory runs out.

A call that runs out of memory is repeated with the next fallback. The run continues from its last finished call, and
its results do not change. Fallbacks while sampling, in this order:

1. fewer windows per call,
2. cond and uncond in separate calls,
3. attention in parts,
4. networks that are not in use wait in the host's memory.

While decoding: fewer pictures per call, then number 4.
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

MOST_WINDOWS, MOST_PICTURES = 2, 8  # per call, if memory allows; more windows are hardly faster, or slower
SHARE = 0.8  # share of the free memory that is used, since it is fragmented
OutOfMemoryError = torch.cuda.OutOfMemoryError  # the only name in torch 2.1, which the WebUI has
T = TypeVar("T")


def is_shortage(error: BaseException) -> bool:
    """Return whether the error means that a GPU's or the host's memory ran out.

    For the host's memory, torch raises a plain RuntimeError, which is recognised by its message.
    """
    if isinstance(error, (OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(
        words in str(error) for words in ("DefaultCPUAllocator", "not enough memory", "out of memory", "ALLOC_FAILED"))


def fits(device: torch.device, work: Callable[[], T], most: int) -> tuple[T, int]:
    """Call `work()`. Return its result and how many such calls fit into the memory that is free now, at most `most`.

    The number follows from the memory that this call took. It is 1 on devices other than CUDA.
    """
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
    """A context manager in which `memory(work)` calls `work()`, and repeats it with fallbacks if memory runs out.

    Leaving the context undoes all changes to the networks.

    on_fallback(message): called for each fallback that is taken.
    waiting(): returns the networks that these calls do not use.
    at_once: number of items (windows or pictures) in a call. 0: one in the first call, then as many as fit by the
    memory that it took. If the first call runs out of memory, the number stays 1.
    """

    most, what = 1, ""  # largest at_once; beginning of the message about fewer items

    def __init__(self, device: torch.device, on_fallback: Callable[[str], None],
                 waiting: Callable[[], Iterable[Any]], at_once: int = 0):
        self.device, self.on_fallback, self.waiting = device, on_fallback, waiting
        self.measured, self.at_once, self.ran_out = at_once > 0, at_once or 1, False
        self.fallbacks = [self._fewer, *self.extra_fallbacks(), self._away]
        self.undo = ExitStack()

    def extra_fallbacks(self) -> list[Callable[[], str]]:
        """Return the fallbacks between fewer items per call and moving networks away.

        Each reduces the memory of a call and returns a message, or "" if it can reduce no more.
        """
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
        if not self.ran_out:
            self.at_once = fitting
        return result

    def _repeated(self, work: Callable[[], T]) -> T:
        while True:
            try:
                return work()
            except (RuntimeError, MemoryError) as error:
                if not is_shortage(error):
                    raise
                shortage = error.with_traceback(None)  # the traceback's frames keep tensors alive
            self._fall_back(shortage)

    def _fall_back(self, shortage: BaseException) -> None:
        """Take the next fallback, or raise OutOfMemoryError if there is none."""
        self.ran_out = True
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        while self.fallbacks:
            if message := self.fallbacks[0]():
                self.on_fallback(message)
                return
            del self.fallbacks[0]
        if isinstance(shortage, OutOfMemoryError):
            raise shortage
        raise OutOfMemoryError(str(shortage)) from shortage

    def _fewer(self) -> str:
        if self.at_once == 1:
            return ""
        self.at_once //= 2
        return f"{self.what} {'one by one' if self.at_once == 1 else f'{self.at_once} at once'}"

    def _away(self) -> str:
        """Move networks that are not in use to the host's memory."""
        there = [(network, place) for network in self.waiting()
                 if network and (place := _device_of(network)).type != "cpu"]
        for network, place in there:
            self.undo.callback(network.to, place)
            network.to("cpu")
        return "networks that are not in use are kept in main memory" if there else ""


def _device_of(network: Any) -> torch.device:
    """Return the device of the network's weights. The `device` attribute of some text encoders may be out of date."""
    return next(network.parameters()).device if isinstance(network, nn.Module) else network.device


class WhileSampling(Memory):
    """Memory fallbacks of sampling. `at_once` counts windows."""

    most, what = MOST_WINDOWS, "windows are denoised"

    def __init__(self, device: torch.device, on_fallback: Callable[[str], None],
                 waiting: Callable[[], Iterable[Any]], at_once: int, unet: nn.Module, module: MotionModule | None,
                 apart: bool = False):
        super().__init__(device, on_fallback, waiting, at_once)
        self.unet, self.module = unet, module
        self.apart = apart  # whether cond and uncond have a call each
        self.in_parts = False  # whether attention is computed in parts

    def extra_fallbacks(self) -> list[Callable[[], str]]:
        return [self._roles_apart, self._attention_in_parts]

    def of_windows(self, work: Callable[[Tensor, Sequence[Group]], Tensor], x: Tensor,
                   windows: Sequence[Group]) -> Tensor:
        """Return `work(rows, windows)` for all windows, with at most `at_once` windows in a call.

        x: [(window frame) …]. The result has the same shape.
        """
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
        """Return `work(roles)`, [role …], in one call, or in one call for each role if `apart`."""
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
    """Memory fallbacks of decoding. `at_once` counts pictures."""

    most, what = MOST_PICTURES, "pictures are decoded"
