"""The interface for other extensions in a job. Our Script class receives the known ones."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

from animatediff.hosts.shared.unet_call import AroundWindow
from animatediff.layout import ClipLayout


class Sampled(Protocol):
    """The part of a sampling pass that other extensions use."""

    layout: ClipLayout  # of the current UNet call


class InJob:
    """An extension's part in one job of ours. This default does nothing."""

    frames: int | None = None  # number of frames that it has inputs for, if limited

    def use(self, frames: int, source: Callable[[], list[str]]) -> bool:
        """`before_process`: use a clip of `frames` frames. SettingsError if the extension cannot make that many.

        Return whether `source` was used.
        source: writes the source's frames, a single one or one per frame of the clip, and returns their paths; none
            without a source.
        """
        return False

    def around_job(self) -> AbstractContextManager[None]:
        """Return a context for the whole job, which is entered after `use`."""
        return nullcontext()

    def around_clip(self) -> AbstractContextManager[None]:
        """Return a context that is entered before each clip, after all scripts' `process`. AnimateDiffError stops it.
        """
        return nullcontext()

    def check(self) -> None:
        """Called before each pass. AnimateDiffError if the extension is not ready for it."""

    def around_pass(self, run: Sampled) -> AbstractContextManager[None]:
        return nullcontext()

    def around_window(self, frames: int) -> Sequence[AroundWindow]:
        """Return contexts for each UNet call of a clip of `frames` frames."""
        return ()


class Neighbour:
    """An extension that may be installed."""

    def notice(self) -> str:
        """Return a notice for the page, or ""."""
        return ""

    def beside(self) -> AbstractContextManager[None]:
        """Return a context that is entered when all scripts are loaded, before the page is built.

        It is left before scripts are loaded again.
        """
        return nullcontext()

    def in_job(self, p: Any) -> InJob:
        """Return its part in a job of ours. SettingsError if the two cannot work together."""
        return InJob()


Neighbours = Sequence[Neighbour]
