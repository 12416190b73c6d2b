"""The window loop: denoise a whole clip with a denoiser of single windows."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from animatediff import fuse, windows
from animatediff.sampling.events import Event, OnEvent, ignore

# denoise(x [(window frame) c h w], sigma or timestep, *windows) -> the same shape. Each window is a tuple of frames.
Denoise = Callable[..., torch.Tensor]


@dataclass
class WindowedDenoiser:
    """Denoise a clip window by window and fuse the overlaps.

    A frame's result is Σ w·x / Σ w over its windows, summed in float32. A frame in a single window keeps its value
    exactly. A window that occurs twice in a step is denoised once.

    A call needs memory for `per_call()` windows, independent of the clip's length. With the schedule "views" it needs
    memory for the whole clip.
    """

    denoise: Denoise
    frames: int  # number of frames in the clip
    context: int  # context length in frames
    stride: int = 1
    overlap: int = -1  # in frames; -1: a quarter of the context length
    closed_loop: str = "none"
    schedule: str = "uniform"  # a name in windows.SCHEDULES
    method: str = "flat"  # a name in fuse.METHODS
    steps: int | None = None  # number of sampler steps, for events
    on_event: OnEvent = ignore
    per_call: Callable[[], int] = lambda: 1  # number of windows in the next call

    def plan(self, step: int) -> list[tuple[int, ...]]:
        """Return the windows that are denoised in this step, each once, or one of the whole clip."""
        return list(dict.fromkeys(self._calls(step)))

    def _calls(self, step: int) -> list[tuple[int, ...]]:
        return windows.calls(
            self.frames, self.context, stride=self.stride, overlap=self.overlap,
            closed_loop=self.closed_loop, schedule=self.schedule, step=step,
        )

    def __call__(self, x: torch.Tensor, sigma: Any, *, step: int = 0) -> torch.Tensor:
        """Return the denoiser's output for the whole clip, with the shape and dtype of x [f c h w].

        step: the sampler step, from 0. The caller passes it, since some samplers call the denoiser twice in a step.
        """
        if x.shape[0] != self.frames:
            raise ValueError(f"the clip has {self.frames} frames, the latents {x.shape[0]}")
        plan = self.plan(step)
        if plan == [tuple(range(self.frames))]:  # nothing to fuse: the plain call, bit for bit
            out = self.denoise(x, sigma, plan[0])
            self._report(1, 1, step, plan[0], x)
            return out
        shares = self._shares(step)
        total, k = torch.zeros_like(x, dtype=torch.float32), 0
        while k < len(plan):
            together = plan[k : k + self.per_call()]
            rows = torch.tensor([frame for window in together for frame in window], device=x.device)
            answers = self.denoise(x.index_select(0, rows), sigma, *together).float()
            for window, answer in zip(together, answers.split([*map(len, together)])):
                share = torch.tensor(shares[window], dtype=torch.float32, device=x.device).view(-1, 1, 1, 1)
                total.index_add_(0, torch.tensor(window, device=x.device), answer * share)
                k += 1
                self._report(k, len(plan), step, window, x)
        return total.to(x.dtype)

    def _shares(self, step: int) -> dict[tuple[int, ...], list[float]]:
        """Return each window's share in the results of its frames. Shares of equal windows are added."""
        found, calls = {}, self._calls(step)
        overlap = windows.resolved_overlap(self.overlap, self.context)
        for window, row in zip(calls, fuse.shares(calls, self.method, frames=self.frames, overlap=overlap)):
            before = found.get(window)
            found[window] = [a + b for a, b in zip(before, row)] if before else row
        return found

    def _report(self, k: int, n: int, step: int, window: tuple[int, ...], x: torch.Tensor) -> None:
        self.on_event(Event("window", k, n, step=step + 1, steps=self.steps or 0, frames=window, latents=x))
