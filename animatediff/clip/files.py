"""The files of one clip: its frames are written as they come, or when all of them are there."""
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from animatediff.clip.interpolation import Interpolation
from animatediff.errors import AnimateDiffError, MediaError
from animatediff.media.colour_match import ColourMatch
from animatediff.media.loop import LoopMeter, LoopScore
from animatediff.media.measure.score import Score, ScoreMeter
from animatediff.media.sound import Sound
from animatediff.media.timing import rate
from animatediff.media.transparency import with_alpha
from animatediff.media.write import ClipWriter, NameTakenError, Target, WriteOptions
from animatediff.media.write.base import fitted

TRIES = 100  # names to try if other runs keep taking them


@dataclass(frozen=True)
class Known:
    """Facts about a clip that are known only while it is made."""

    frames: int = 0  # added so far
    loop: LoopScore | None = None
    score: Score | None = None
    shortages: tuple[str, ...] = ()  # notes on fallbacks taken because memory ran out


@dataclass(frozen=True)
class Clip:
    """A clip to be written.

    text: returns the settings text that every file contains. It is called when writing begins, and again when more is
    known.
    place: returns where the files go. It is called when they are opened, with the number of its results that other
    runs have already taken.
    playback: returns the order in which this many frames play. With it, frames are added in the clip's order, held in
    memory, and written when the clip is finished. Without it, frames are added in playback order and written at once.
    """

    frames: int  # number of frames that will be added
    formats: Sequence[str]
    fps: float  # of the added frames, before interpolation
    text: Callable[[Known], str]
    place: Callable[[int], Target]
    loop_number: int = 0
    playback: Callable[[int], Sequence[int]] | None = None
    options: WriteOptions | None = None
    interpolation: Interpolation | None = None
    hold_all: bool = False  # whether Written.held contains the interpolated frames, too
    sound: Sound | None = None  # for the formats that can contain sound
    score: bool = False  # whether flicker and colour drift are measured
    match: Callable[[], ColourMatch] | None = None  # makes the colour match for the added frames
    alpha: Callable[[int], np.ndarray] | None = None  # returns the alpha channel, [h w], of the n-th added frame

    def shown(self, frame: Any, number: int) -> Any:
        """Return the n-th added frame with the clip's alpha channel. A PIL image with its own keeps that."""
        if self.alpha is None or self.interpolation is not None or getattr(frame, "mode", "RGB") == "RGBA":
            return frame
        return with_alpha(frame, self.alpha(number))


@dataclass
class Written:
    """The result of writing a clip."""

    clip: Clip
    stem: Path = Path()  # folder and name of the files, without an ending
    paths: list[Path] = field(default_factory=list)
    frames: int = 0  # number of frames in the files
    text: str = ""
    loop: LoopScore | None = None
    score: Score | None = None
    notes: list[str] = field(default_factory=list)
    held: list[Any] = field(default_factory=list)  # frames in playback order, if the clip holds its frames
    interrupted: bool = False


class Streamed:
    """A clip whose frames are written as they come."""

    def __init__(self, clip: Clip):
        self.clip, self.meter, self.shortages = clip, _Meter(clip), []
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
            self._describe(self.meter.loop, self.meter.score)
        return self._written()

    def fail(self, error: BaseException) -> Written:
        self.writer.__exit__(type(error), error, error.__traceback__)
        return self._written()

    def _describe(self, loop: LoopScore | None = None, score: Score | None = None) -> None:
        """Update the text in the files if it has changed."""
        text = self.clip.text(Known(self.count, loop, score, tuple(self.shortages)))
        if text != self.text:
            self.text = text
            self.writer.describe(text)

    def _written(self) -> Written:
        return Written(self.clip, self.writer.stem, self.writer.paths, self.writer.count, self.text, self.meter.loop,
                       self.meter.score, [*self.writer.notes, *self.between.notes])


class Held:
    """A clip whose frames are held until all are there, because its text or playback order depends on all of them."""

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
        done, meter = Written(clip, held=[self.frames[i] for i in order]), _Meter(clip)
        for frame in done.held:
            meter.add(eight_bits(frame))
        done.loop, done.score = meter.loop, meter.score
        done.text = clip.text(Known(count, done.loop, done.score, tuple(self.shortages)))
        self._write(done, order)
        done.frames = done.frames or len(done.held)
        if count < clip.frames:
            done.notes.append(f"the job ended after {count} of {clip.frames} frames")
        return done

    def fail(self, error: BaseException) -> Written | None:
        return self.finish()

    def _write(self, done: Written, order: Sequence[int]) -> None:
        """Write the files. Errors become notes, so that the held frames are kept.

        order: the frames' numbers in playback order.
        """
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
            except RuntimeError as error:  # from a network, for example when the GPU runs out of memory
                done.notes.append(f"interpolation ended after {writer.count} frames ({str(error).splitlines()[0]})")
            done.paths, done.frames, done.held = writer.paths, writer.count, held or done.held
            done.notes += [*writer.notes, *between.notes]
        except AnimateDiffError as error:
            done.paths = getattr(error, "kept", [])
            done.notes.append(str(error))
        except OSError as error:
            done.notes.append(str(MediaError(f"the clip was not written ({error})", where=str(done.stem))))


class _Meter:
    """Measures a clip's own frames, without interpolated ones, in playback order."""

    def __init__(self, clip: Clip):
        self._seconds = 1 / rate(clip.fps)
        self._loop, self._score = LoopMeter(), ScoreMeter() if clip.score else None

    def add(self, pixels: np.ndarray) -> None:
        self._loop.add(pixels)
        if self._score:
            self._score.add(pixels, self._seconds)

    @property
    def loop(self) -> LoopScore | None:
        return self._loop.score

    @property
    def score(self) -> Score | None:
        return self._score and self._score.score


class _Between:
    """Interpolates between frames, PIL images or uint8 [h w 3]. New frames have the type of the added ones."""

    def __init__(self, clip: Clip):
        self._stream = clip.interpolation.stream() if clip.interpolation else None
        self._seconds = 1 / rate(clip.fps)
        self._own: list[tuple[np.ndarray, Any]] = []  # the last two frames: pixels, and the original object

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
    """Return a frame as uint8 [h w 3]."""
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
