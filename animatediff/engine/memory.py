"""What a run does with the memory that there is, and what it gives up, in a fixed order, where that does not do.

While sampling: windows per call, then cond and uncond in one call, then attention at once, then the networks that wait
on the device. While decoding: pictures per call, then the networks that wait. A call that ran out of memory is made again
one rung further down, so the run goes on behind its last finished call, with the same numbers.
"""
from __future__ import annotations

import gc
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from ..sampling import Event, OnEvent

if TYPE_CHECKING:
    from .pipeline import Pipeline

MOST_WINDOWS, MOST_PICTURES = 4, 8  # in a call, where memory is no limit
SHARE = 0.8  # of the free memory, which is in pieces
TILE = 1_024  # positions of a temporal attention at a time
T = TypeVar("T")


def is_shortage(error: BaseException) -> bool:
    """Whether memory did not do: of a GPU, of the host by Python, or by torch, which has no class of its own for that."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
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
    """`with` it, calls are made by `memory(work)`, which repeats what ran out of memory. Leaving the block undoes what was
    changed for that in the networks. Every rung that is taken is told as an event of the kind "note".

    `at_once`: of what a call may hold several. Where that is not given, it is one until the first call has shown how many
    fit; where that call ran out of memory, it stays so.
    """

    most, what = 1, ""

    def __init__(self, pipeline: Pipeline, on_event: OnEvent, at_once: int = 0):
        self.pipeline, self.on_event, self.device = pipeline, on_event, pipeline.device
        self.measured, self.at_once, self.short = at_once > 0, at_once or 1, False
        self.rungs: list[Callable[[], str]] = [self._fewer]  # each makes calls smaller and says how, or "" where it cannot
        self.undo = ExitStack()

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
                self.on_event(Event("note", 1, 1, text=f"memory was short: {said}"))
                return
            del self.rungs[0]
        if isinstance(shortage, torch.OutOfMemoryError):
            raise shortage
        raise torch.OutOfMemoryError(str(shortage)) from shortage

    def _fewer(self) -> str:
        if self.at_once == 1:
            return ""
        self.at_once //= 2
        return f"{self.what} {'one by one' if self.at_once == 1 else f'{self.at_once} at once'}"

    def away(self, *networks: Any) -> str:
        """Networks that are not used now wait in the host's memory."""
        there = [(network, place) for network in networks if network and (place := _device_of(network)).type != "cpu"]
        for network, place in there:
            self.undo.callback(network.to, place)
            network.to("cpu")
        return "networks that wait do so in the host's memory" if there else ""


def _device_of(network: Any) -> torch.device:
    return network.device if hasattr(network, "device") else next(network.parameters()).device


class WhileSampling(Memory):
    """`at_once`: windows. `apart`: cond and uncond each have a call."""

    most, what = MOST_WINDOWS, "windows are denoised"

    def __init__(self, pipeline: Pipeline, on_event: OnEvent, at_once: int):
        super().__init__(pipeline, on_event, at_once)
        self.apart = self.in_parts = False
        self.rungs += [self._roles_apart, self._attention_in_parts, lambda: self.away(pipeline.vae, pipeline.text)]

    def _roles_apart(self) -> str:
        if self.apart:
            return ""
        self.apart = True
        return "prompt and negative prompt are denoised apart"

    def _attention_in_parts(self) -> str:
        if self.in_parts:
            return ""
        self.in_parts = True
        unet, module = self.pipeline.unet, self.pipeline.module
        sites = [site.temporal_transformer for site in module.sites().values()] if module else []
        self.undo.callback(unet.set_attn_processor, dict(unet.attn_processors))
        unet.set_attention_slice("max")
        for site in sites:
            self.undo.callback(delattr, site, "most_positions")
            site.most_positions = TILE
        return "attention is computed in parts"


class WhileDecoding(Memory):
    """`at_once`: pictures."""

    most, what = MOST_PICTURES, "pictures are decoded"

    def __init__(self, pipeline: Pipeline, on_event: OnEvent):
        super().__init__(pipeline, on_event)
        self.rungs.append(lambda: self.away(pipeline.unet, pipeline.module, pipeline.text))
