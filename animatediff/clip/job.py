"""Write clips from frames that are added one by one, and measure them.

    job = Job()
    job.begin(clip)
    for frame in frames:
        job.add(frame)
    written = job.finish()

`job.fail(error)` instead of `finish` keeps the frames added so far. `begin` finishes the previous clip under its own
name and text, even if some of its frames are missing.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from animatediff.clip import resume
from animatediff.clip.files import Clip, Held, Known, Streamed, Written, eight_bits
from animatediff.clip.resume import Keeper
from animatediff.media.colour_match import ColourMatch
from animatediff.sampling.events import Event, OnEvent, ignore

__all__ = ["Clip", "Job", "Known", "Written", "run"]


class Job:
    """Writes one clip after the other. `written`: the finished clips."""

    def __init__(self) -> None:
        self.written: list[Written] = []
        self._current: Streamed | Held | None = None
        self._match: ColourMatch | None = None

    def begin(self, clip: Clip) -> None:
        """Begin a clip. Following frames are added to it. Raises MediaError if its files cannot be opened."""
        self.finish()
        self._current = Streamed(clip) if clip.playback is None else Held(clip)
        self._match = clip.match and clip.match()

    @property
    def stem(self) -> Path | None:
        """Folder and name of the files being written, without an ending; None if no file is open."""
        return self._current.writer.stem if isinstance(self._current, Streamed) else None

    def add(self, frame: Any) -> None:
        """Add the next frame, a PIL image or uint8 [h w 3]."""
        assert self._current is not None, "begin a clip first"
        self._current.add(_matched(frame, self._match) if self._match else frame)

    def on_event(self, event: Event) -> None:
        """Receive an event of the sampling run. Notes on memory fallbacks are written into the clip's text."""
        if event.kind == "note" and self._current is not None:
            self._current.shortages.append(event.text)

    def finish(self) -> Written | None:
        """Finish the current clip. Returns None if there is no clip, or if a held clip has no frames.

        A writing error is raised if frames are written as they come, and becomes a note if they are held.
        """
        done = None if self._current is None else self._current.finish()
        self._current = None  # kept if finish() was interrupted, so that `fail` can use it
        return self._keep(done)

    def drop(self) -> None:
        """Discard the current clip, whose frames are held, without writing it."""
        self._current = None

    def fail(self, error: BaseException) -> Written | None:
        """Finish the current clip with the frames added so far. error: the reason; the caller raises it."""
        current, self._current = self._current, None
        return None if current is None else self._keep(current.fail(error))

    def _keep(self, done: Written | None) -> Written | None:
        if done is not None:
            self.written.append(done)
        return done


def _matched(frame: Any, match: ColourMatch) -> Any:
    """Return the frame with matched colours. A PIL image is changed in place, since callers identify it by object."""
    own = eight_bits(frame)
    pixels = match(own)
    if not isinstance(frame, np.ndarray):
        frame.paste(Image.fromarray(pixels))
        return frame
    colours, alpha = frame[..., :3], frame[..., 3:]
    if frame.dtype == np.uint16:  # keep the precision beyond 8 bits
        pixels = (colours + (pixels.astype(np.int32) - own) * 257).clip(0, 65535).astype(np.uint16)
    return np.concatenate((pixels, alpha), -1) if alpha.size else pixels


def run(frames_of: Callable[[OnEvent, Keeper], Iterable[np.ndarray]], clip: Clip, keeper: Keeper,
        on_event: OnEvent = ignore) -> Written:
    """Make one clip and write its frames as they come, in playback order.

    frames_of(on_event, keeper): makes the frames.
    On Ctrl-C the finished frames and the run's state are kept, so that the run can be resumed. Any other error keeps
    them too, and is raised.
    """
    job = Job()
    job.begin(clip)
    if job.stem:
        keeper.path = resume.path_of(job.stem)

    def both(event: Event) -> None:
        job.on_event(event)
        on_event(event)

    try:
        for frame in frames_of(both, keeper):
            job.add(frame)
        written = job.finish()
    except BaseException as error:
        written = job.fail(error)
        if not isinstance(error, KeyboardInterrupt):
            raise
        assert written is not None
        written.interrupted = True
    assert written is not None  # finish() returns None only for held clips
    if not written.interrupted:
        keeper.remove()
    written.notes += keeper.notes
    return written
