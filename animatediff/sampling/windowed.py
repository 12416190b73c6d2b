"""The window loop: a denoiser of whole clips made from a denoiser of a window."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from animatediff import fuse, windows
from animatediff.sampling.events import Event, OnEvent, ignore

# denoise(x [(window frame) c h w], sigma or timestep, each window's numbers of its frames in x) -> the same shape
Denoise = Callable[..., torch.Tensor]


@dataclass
class WindowedDenoiser:
    """Denoise window by window and join the overlaps: Σ w·x / Σ w for each frame, summed in float32. A frame
    that one window alone holds keeps its value exactly. A window that comes twice in a step is denoised once.

    Memory for one window at a time, or as many as `per_call` says when it is asked, whatever the clip's length; with
    the schedule "views" for all of the clip. `steps` is the number of sampler steps, for events; the caller passes
    the step, since a sampler may call more than once in a step.
    """

    denoise: Denoise
    frames: int
    context: int
    stride: int = 1
    overlap: int = -1
    closed_loop: str = "none"
    schedule: str = "uniform"
    method: str = "flat"
    steps: int | None = None
    on_event: OnEvent = ignore
    per_call: Callable[[], int] = lambda: 1

    def plan(self, step: int) -> list[tuple[int, ...]]:
        """What is denoised in this step: windows, each once, or the whole clip."""
        return list(dict.fromkeys(self._calls(step)))

    def _calls(self, step: int) -> list[tuple[int, ...]]:
        return windows.calls(
            self.frames, self.context, stride=self.stride, overlap=self.overlap,
            closed_loop=self.closed_loop, schedule=self.schedule, step=step,
        )

    def __call__(self, x: torch.Tensor, sigma: Any, *, step: int = 0) -> torch.Tensor:
        """x [f c h w] -> the denoiser's answer for the whole clip, same shape and dtype."""
        if x.shape[0] != self.frames:
            raise ValueError(f"the clip has {self.frames} frames, the latents {x.shape[0]}")
        plan = self.plan(step)
        if plan == [tuple(range(self.frames))]:  # nothing to fuse: bit for bit the plain call
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
        """What each window has in its frames' results."""
        found, calls = {}, self._calls(step)
        overlap = windows.resolved_overlap(self.overlap, self.context)
        for window, row in zip(calls, fuse.shares(calls, self.method, frames=self.frames, overlap=overlap)):
            before = found.get(window)
            found[window] = [a + b for a, b in zip(before, row)] if before else row
        return found

    def _report(self, k: int, n: int, step: int, window: tuple[int, ...], x: torch.Tensor) -> None:
        self.on_event(Event("window", k, n, step=step + 1, steps=self.steps or 0, frames=window, latents=x))
