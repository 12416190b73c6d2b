"""The context windows of a clip, and the number of UNet calls that they take."""
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
    """Settings of the context windows. `stride` to `schedule` are those of `windows.plan`."""

    frames: int  # in the clip
    length: int  # frames in a window
    stride: int = 1
    overlap: int = -1
    closed_loop: str = "none"
    schedule: str = "uniform"
    method: str = "flat"  # see fuse.METHODS

    @classmethod
    def of(cls, settings: Settings, frames: int) -> Context:
        """Return the context of these settings for a clip of this many frames.

        Without a motion module, frames do not depend on each other: they are split into batches of the context length.
        """
        if not settings.enable:
            return cls(frames, settings.context_length, schedule="batched", overlap=0)
        return cls(frames, settings.context_length, settings.stride, settings.overlap, settings.closed_loop,
                   settings.context_schedule, settings.fuse_method)

    def calls(self, step: int) -> int:
        """Return the number of windows in one denoiser call of this sampler step."""
        return _calls(self, step)

    def about(self, step: int) -> int:
        """Return an estimate of `calls`, without computing the windows."""
        return windows.estimate(self.frames, self.length, stride=self.stride, overlap=self.overlap,
                                closed_loop=self.closed_loop, schedule=self.schedule, step=step)

    def denoiser(self, call: Callable, steps: int, on_event: OnEvent = ignore,
                 per_call: Callable[[], int] = lambda: 1) -> WindowedDenoiser:
        """Return a denoiser of the whole clip. call: denoises some of its windows."""
        return WindowedDenoiser(call, self.frames, self.length, self.stride, self.overlap, self.closed_loop,
                                self.schedule, self.method, steps, on_event, per_call)


@lru_cache(maxsize=16_384)
def _calls(context: Context, step: int) -> int:
    return windows.count(context.frames, context.length, stride=context.stride, overlap=context.overlap,
                         closed_loop=context.closed_loop, schedule=context.schedule, step=step)
