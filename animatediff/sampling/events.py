"""Progress events: the sampling code reports them, and hosts show them."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Event:
    """Progress of a run. All counts start at 1.

    kind: one of
      "iteration": a further iteration begins, or the seam repair;
      "window": a window has been denoised, `index` of `total` in step `step` of `steps`;
      "step": a sampler step is done, `index` of `total`;
      "frame": a frame has been decoded, `index` of `total`;
      "note": `text` is a note for the user.
    """

    kind: str
    index: int
    total: int
    step: int = 0
    steps: int = 0
    frames: tuple[int, ...] = ()  # numbers of the frames concerned, from 0
    latents: Any = None  # [f c h w], the clip at this point, for previews; not a copy
    iteration: int = 1  # the sampler run; the seam repair comes after the last iteration
    iterations: int = 1
    text: str = ""

    @property
    def run_name(self) -> str:
        """Name of the sampler run, or "" for the only one."""
        if self.iteration > self.iterations:
            return "seam repair"
        return f"iteration {self.iteration} of {self.iterations}" if self.iterations > 1 else ""


OnEvent = Callable[[Event], None]


def report_fallbacks(on_event: OnEvent) -> Callable[[str], None]:
    """Return a callback for `memory.Memory` that reports each memory fallback as a "note" event."""
    return lambda fallback: on_event(Event("note", 1, 1, text=f"memory was short: {fallback}"))


def ignore(event: Event) -> None:
    """Ignore the event: the default callback."""
