"""Other extensions beside this one, as a job sees them. Our Script class is handed those that are known."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

from animatediff.hosts.shared.unet_call import AroundWindow
from animatediff.layout import ClipLayout


class Sampled(Protocol):
    """A sampling pass, as far as it concerns others."""

    layout: ClipLayout  # of the UNet call that is under way


class InJob:
    """What an extension has to do with one job of ours; this one has nothing."""

    frames: int | None = None  # of how many frames it has something to give, where that is limited

    def use(self, frames: int, source: Callable[[], list[str]]) -> bool:
        """`before_process`: the clip has so many frames. SettingsError where that cannot be. source: writes the frames
        of the source, one or one for each of the clip's, and gives their paths; none where there is no source. Whether
        that was used."""
        return False

    def check(self) -> None:
        """Before each pass: AnimateDiffError where the extension is not ready for it."""

    def around_pass(self, run: Sampled) -> AbstractContextManager[None]:
        return nullcontext()

    def around_window(self, frames: int) -> Sequence[AroundWindow]:
        """Contexts for each call of the UNet of a clip of `frames`."""
        return ()


class Neighbour:
    """An extension that may be there."""

    def notice(self) -> str:
        """What the page says of it; "" for nothing."""
        return ""

    def beside(self) -> AbstractContextManager[None]:
        """Entered when all scripts are loaded, before the page is built; left before scripts are loaded again."""
        return nullcontext()

    def in_job(self, p: Any) -> InJob:
        """Its part in a job of ours. SettingsError where the two cannot work together."""
        return InJob()


Neighbours = Sequence[Neighbour]
