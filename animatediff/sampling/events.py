"""What a run reports while it works. The core reports, hosts show."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Event:
    """`kind` is "iteration" (before one of several begins), "window" (after a window has been denoised), "step" (after
    a sampler step), "frame" (decoded) or "note" (`text` is something that the user may not expect).

    Counts are 1-based: window `index` of `total` in step `step` of `steps`; step `index` of `total`; frame
    `index` of `total`. `latents` [f c h w] is the clip as it stands, for previews; not a copy.
    """

    kind: str
    index: int
    total: int
    step: int = 0
    steps: int = 0
    frames: tuple[int, ...] = ()
    latents: Any = None
    iteration: int = 1
    iterations: int = 1
    text: str = ""


OnEvent = Callable[[Event], None]


def shortage_told(on_event: OnEvent) -> Callable[[str], None]:
    """Tells in a note of what is given up for want of memory."""
    return lambda given_up: on_event(Event("note", 1, 1, text=f"memory was short: {given_up}"))


def ignore(event: Event) -> None:
    """The callback of a caller who does not listen."""
