"""Clips from frames that are pushed one by one, to files: writers, loop score, notes, and what is left after an error.

    job = Job()
    job.begin(clip)
    for frame in frames:
        job.add(frame)
    written = job.finish()

`job.fail(error)` in place of `finish` keeps the frames that are there. A clip that is begun ends the one before it,
under that one's own name and text, however many of its frames have come.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from animatediff.clip import resume
from animatediff.clip.interpolation import Interpolation
from animatediff.clip.resume import Keeper
from animatediff.errors import AnimateDiffError, MediaError
from animatediff.media.loop import LoopMeter, LoopScore
from animatediff.media.sound import Sound
from animatediff.media.timing import rate
from animatediff.media.transparency import with_alpha
from animatediff.media.write import ClipWriter, NameTakenError, Target, WriteOptions
from animatediff.media.write.base import fitted
from animatediff.sampling.events import Event, OnEvent, ignore

TRIES = 100  # names, where other runs are faster each time


@dataclass(frozen=True)
class Known:
    """What is known of a clip only while it is made."""

    frames: int = 0  # that have come
    loop: LoopScore | None = None
    shortages: tuple[str, ...] = ()  # of memory, and what was given up for it


@dataclass(frozen=True)
class Clip:
    """What a clip's files are to be.

    text: the settings text in every file, from what is known; asked when writing begins, and again when more is known.
    place: where its files go; asked when they are opened, with how many of its answers other runs have taken.
    playback: the order in which so many frames play. With it, frames are pushed in the order of the clip, held, and
    written when the clip is finished; without it, they come in the order of playback and are written at once.
    fps: of the frames that are pushed. interpolation: what is written between them. hold_all: what is held then holds
    that, too. sound: of the files that can have it. alpha: gives the alpha channel, uint8 [h w], of the n-th frame that
    is pushed, for files that can have it; not for a clip with interpolation.
    """

    frames: int  # that are to be pushed
    formats: Sequence[str]
    fps: float
    text: Callable[[Known], str]
    place: Callable[[int], Target]
    loop_number: int = 0
    playback: Callable[[int], Sequence[int]] | None = None
    options: WriteOptions | None = None
    interpolation: Interpolation | None = None
    hold_all: bool = False
    sound: Sound | None = None
    alpha: Callable[[int], np.ndarray] | None = None

    def shown(self, frame: Any, number: int) -> Any:
        """The n-th frame that is pushed, with its alpha channel, if it has one. A PIL image with its own keeps that."""
        if self.alpha is None or self.interpolation is not None or getattr(frame, "mode", "RGB") == "RGBA":
            return frame
        return with_alpha(frame, self.alpha(number))


@dataclass
class Written:
    """What came of a clip. `held`: its frames in the order of playback, of a clip whose frames are held."""

    clip: Clip
    stem: Path = Path()  # of the files' names
    paths: list[Path] = field(default_factory=list)
    frames: int = 0  # in the files
    text: str = ""
    loop: LoopScore | None = None
    notes: list[str] = field(default_factory=list)
    held: list[Any] = field(default_factory=list)
    interrupted: bool = False


class Job:
    """One clip after the other. `written`: those that are done."""

    def __init__(self) -> None:
        self.written: list[Written] = []
        self._current: _Streamed | _Held | None = None

    def begin(self, clip: Clip) -> None:
        """The clip that frames are pushed to from now on. MediaError where its files cannot be opened."""
        self.finish()
        self._current = _Streamed(clip) if clip.playback is None else _Held(clip)

    @property
    def stem(self) -> Path | None:
        """Folder and name of the files that are written to now."""
        return self._current.writer.stem if isinstance(self._current, _Streamed) else None

    def add(self, frame: Any) -> None:
        """The next frame, a PIL image or uint8 [h w 3]."""
        assert self._current is not None, "begin a clip first"
        self._current.add(frame)

    def told(self, event: Event) -> None:
        """An event of the run that makes the frames; what was given up for want of memory goes into the files."""
        if event.kind == "note" and self._current is not None:
            self._current.shortages.append(event.text)

    def finish(self) -> Written | None:
        """End the clip under way; None where there is none, or none of its frames has come. What cannot be written is
        raised for a clip that is written as it comes, and noted for one that is held."""
        done = None if self._current is None else self._current.finish()
        self._current = None  # not where that was interrupted, for `fail`
        return self._keep(done)

    def drop(self) -> None:
        """Forget the clip under way, whose frames are held."""
        self._current = None

    def fail(self, error: BaseException) -> Written | None:
        """End the clip under way with the frames that have come. `error` is why, and the caller's to raise."""
        current, self._current = self._current, None
        return None if current is None else self._keep(current.fail(error))

    def _keep(self, done: Written | None) -> Written | None:
        if done is not None:
            self.written.append(done)
        return done


class _Streamed:
    """A clip whose frames go into its files as they come."""

    def __init__(self, clip: Clip):
        self.clip, self.meter, self.shortages = clip, LoopMeter(), []
        self.text = clip.text(Known())
        self.between = _Between(clip)
        self.writer = _writer(clip, self.text)
        self.count = 0

    def add(self, frame: Any) -> None:
        self._describe()
        for each in self.between.push(frame):
            self.writer.add(self.clip.shown(each, self.count))
        self.count += 1
        self.meter.add(eight_bits(frame))

    def finish(self) -> Written:
        with self.writer:
            for each in self.between.finish():
                self.writer.add(each)
            self._describe(self.meter.score)
        return self._written()

    def fail(self, error: BaseException) -> Written:
        self.writer.__exit__(type(error), error, error.__traceback__)
        return self._written()

    def _describe(self, loop: LoopScore | None = None) -> None:
        """Tell the files what has become known."""
        text = self.clip.text(Known(self.count, loop, tuple(self.shortages)))
        if text != self.text:
            self.text = text
            self.writer.describe(text)

    def _written(self) -> Written:
        return Written(self.clip, self.writer.stem, self.writer.paths, self.writer.count, self.text, self.meter.score,
                       [*self.writer.notes, *self.between.notes])


class _Held:
    """A clip whose frames are held until they are all there, since its text or their order depends on all of them."""

    def __init__(self, clip: Clip):
        self.clip, self.shortages = clip, []
        self.frames: list[Any] = []

    @property
    def count(self) -> int:
        return len(self.frames)

    def add(self, frame: Any) -> None:
        self.frames.append(frame)

    def finish(self) -> Written | None:
        clip, count = self.clip, len(self.frames)
        if not count:
            return None
        order = (clip.playback or range)(count)
        done, meter = Written(clip, held=[self.frames[i] for i in order]), LoopMeter()
        for frame in done.held:
            meter.add(eight_bits(frame))
        done.loop = meter.score
        done.text = clip.text(Known(count, done.loop, tuple(self.shortages)))
        self._write(done, order)
        done.frames = done.frames or len(done.held)
        if count < clip.frames:
            done.notes.append(f"the job ended after {count} of {clip.frames} frames")
        return done

    def fail(self, error: BaseException) -> Written | None:
        return self.finish()

    def _write(self, done: Written, order: Sequence[int]) -> None:
        """The frames outlive their files: what cannot be written is a note, and the rest is there. order: the frames'
        numbers, as they play."""
        if not done.clip.formats:
            return
        try:
            writer = _writer(done.clip, done.text)
            done.stem = writer.stem
            between, held = _Between(done.clip), []
            try:
                with writer:
                    pushed = ((each, i) for frame, i in zip(done.held, order) for each in between.push(frame))
                    for each, i in chain(pushed, ((each, order[-1]) for each in between.finish())):
                        writer.add(done.clip.shown(each, i))
                        held += [each] if done.clip.hold_all else []
            except RuntimeError as error:  # of a network, such as a GPU without memory
                done.notes.append(f"interpolation ended after {writer.count} frames ({str(error).splitlines()[0]})")
            done.paths, done.frames, done.held = writer.paths, writer.count, held or done.held
            done.notes += [*writer.notes, *between.notes]
        except AnimateDiffError as error:
            done.paths = getattr(error, "kept", [])
            done.notes.append(str(error))
        except OSError as error:
            done.notes.append(str(MediaError(f"the clip was not written ({error})", where=str(done.stem))))


class _Between:
    """Frames, PIL images or uint8 [h w 3], and what is made between them, in the kind of the frames."""

    def __init__(self, clip: Clip):
        self._stream = clip.interpolation.stream() if clip.interpolation else None
        self._seconds = 1 / rate(clip.fps)
        self._own: list[tuple[np.ndarray, Any]] = []  # the last two frames, in pixels and as they came

    def push(self, frame: Any) -> Iterator[Any]:
        if self._stream is None:
            yield frame
            return
        pixels = eight_bits(frame)
        self._own = [*self._own[-1:], (pixels, frame)]
        yield from map(self._as_it_came, self._stream.push(pixels, self._seconds))

    def finish(self) -> Iterator[Any]:
        if self._stream is not None:
            yield from map(self._as_it_came, self._stream.finish())

    @property
    def notes(self) -> list[str]:
        return self._stream.notes if self._stream else []

    def _as_it_came(self, pixels: np.ndarray) -> Any:
        own = next((frame for known, frame in self._own if known is pixels), None)
        if own is not None:
            return own
        return pixels if isinstance(self._own[-1][1], np.ndarray) else Image.fromarray(pixels)


def eight_bits(frame: Any) -> np.ndarray:
    """A frame as uint8 [h w 3]."""
    if not isinstance(frame, np.ndarray):
        return np.asarray(frame.convert("RGB"))
    return fitted(frame, 8, alpha=False)


def _writer(clip: Clip, text: str) -> ClipWriter:
    before: Target | None = None
    for taken in range(TRIES):
        target = clip.place(taken)
        try:
            fps = clip.interpolation.fps if clip.interpolation else clip.fps
            options = replace(clip.options or WriteOptions(), on_white=clip.alpha is None)
            return ClipWriter(target, clip.formats, fps, clip.loop_number, text, options=options, sound=clip.sound)
        except NameTakenError:
            if target == before:
                raise
            before = target
    raise NameTakenError(f"other runs have taken {TRIES} names", where=str(before), remedy="Choose another folder")


def run(frames_of: Callable[[OnEvent, Keeper], Iterable[np.ndarray]], clip: Clip, keeper: Keeper,
        on_event: OnEvent = ignore) -> Written:
    """Make one clip, whose frames come in the order of playback, and write it as they come.

    frames_of(on_event, keeper): makes them. Ctrl-C keeps the frames that are finished and the run's state, to go on
    from; any other error does so too, and is raised.
    """
    job = Job()
    job.begin(clip)
    if job.stem:
        keeper.path = resume.path_of(job.stem)

    def told(event: Event) -> None:
        job.told(event)
        on_event(event)

    try:
        for frame in frames_of(told, keeper):
            job.add(frame)
        written = job.finish()
    except BaseException as error:
        written = job.fail(error)
        if not isinstance(error, KeyboardInterrupt):
            raise
        assert written is not None
        written.interrupted = True
    assert written is not None  # a clip that is written as it comes is there from the beginning
    if not written.interrupted:
        keeper.remove()
    written.notes += keeper.notes
    return written
