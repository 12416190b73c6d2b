"""How context windows lie over a clip: what is denoised together, and how many calls of the UNet that makes."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from animatediff import windows
from animatediff.sampling import OnEvent, WindowedDenoiser
from animatediff.sampling.events import ignore
from animatediff.settings import Settings


@dataclass(frozen=True)
class Context:
    """Frames of the clip, frames of a window, and the rest as in `windows.plan`. method: see fuse.METHODS."""

    frames: int
    length: int
    stride: int = 1
    overlap: int = -1
    closed_loop: str = "none"
    schedule: str = "uniform"
    method: str = "flat"

    @classmethod
    def of(cls, settings: Settings, frames: int) -> Context:
        """Without a motion module frames do not know each other: plain batches of the context length."""
        if not settings.enable:
            return cls(frames, settings.context_length, schedule="batched", overlap=0)
        return cls(frames, settings.context_length, settings.stride, settings.overlap, settings.closed_loop,
                   settings.context_schedule, settings.fuse_method)

    def calls(self, step: int) -> int:
        """How many windows are denoised in a call of the denoiser in this sampler step."""
        return _calls(self, step)

    def about(self, step: int) -> int:
        """About how many, without making the windows."""
        return windows.estimate(self.frames, self.length, stride=self.stride, overlap=self.overlap,
                                closed_loop=self.closed_loop, schedule=self.schedule, step=step)

    def denoiser(self, call: Callable, steps: int, on_event: OnEvent = ignore,
                 per_call: Callable[[], int] = lambda: 1) -> WindowedDenoiser:
        """Of the whole clip, from the denoiser of some windows."""
        return WindowedDenoiser(call, self.frames, self.length, self.stride, self.overlap, self.closed_loop,
                                self.schedule, self.method, steps, on_event, per_call)


@lru_cache(maxsize=16_384)
def _calls(context: Context, step: int) -> int:
    return windows.count(context.frames, context.length, stride=context.stride, overlap=context.overlap,
                         closed_loop=context.closed_loop, schedule=context.schedule, step=step)
