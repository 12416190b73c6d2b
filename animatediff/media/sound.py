"""The sound of a file: which there is, and its samples from one time to another, decoded as they are asked for."""
from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from animatediff.errors import MediaError, end_of
from animatediff.media.budget import CHANNELS, FRAME_SAMPLES, PIXELS, SAMPLE_RATE, SoundBudget, TooMuchError
from animatediff.media.opening import HEAD, READ_SOUND, Kind, sound_kind
from animatediff.media.pyav import library, opened

REMEDY = f"Give {READ_SOUND}"
STILL_CODECS = ("png", "mjpeg", "bmp", "gif", "webp", "tiff")  # of cover art
EXACT_SEEK = ("mp4", "matroska", "wav", "flac", "aiff", "caf")  # containers with an index, or with samples of one size
RUN_IN = Fraction(1)  # seconds that are decoded before the first one that is wanted, for codecs that need those before
JITTER = Fraction(1, 20)  # seconds by which a packet's time may differ from the end of the one before
BLOCK = 2**16  # samples of silence made at once


@dataclass(frozen=True)
class Sound:
    """A file's sound from `begin` to `end`, in seconds; `end` None: to its end. loop: repeated in a longer clip.

    Time 0 is the first frame of the file's video, or the first sample of a file without video. offset: the time of the
    first sample. seconds: how long the track is, None where the file does not say. codec: ffmpeg's name of it. deep: it
    has more than 16 bits.
    """

    path: Path
    codec: str
    rate: int  # samples per second
    channels: int
    offset: Fraction = Fraction(0)
    seconds: Fraction | None = None
    deep: bool = False
    begin: Fraction = Fraction(0)
    end: Fraction | None = None
    loop: bool = False

    def part(self, begin: float | Fraction, end: float | Fraction | None = None, *, loop: bool = False) -> Sound:
        """This sound between two times of the file."""
        return replace(self, begin=_exact(begin), end=None if end is None else _exact(end), loop=loop)

    def samples(self, channels: int | None = None) -> Generator[np.ndarray, None, None]:
        """float32 [samples channels] in blocks at the file's own rate, from `begin` on. Mono or stereo, as the file is
        unless `channels` says so. Damaged packets are silent. MediaError for what cannot be read."""
        channels = channels or min(self.channels, 2)
        budget = SoundBudget()
        whole = None if self.end is None else max(0, round((self.end - self.begin) * self.rate))
        while True:
            count = 0
            for block in self._once(channels, budget):
                block = block if whole is None else block[:whole - count]
                count += len(block)
                yield block
                if count == whole:
                    break
            if not self.loop or not count:
                return
            yield from _silence((whole or count) - count, channels)

    def _once(self, channels: int, budget: SoundBudget) -> Iterator[np.ndarray]:
        """One pass over the file from `begin` on."""
        with opened_track(self.path) as track:
            first = round(self.begin * self.rate)
            track.seek(self.begin - RUN_IN)
            at = first  # number of the sample that is due, from time 0
            for position, block in track.decoded(self.rate, channels, budget):
                gap = position - at
                if abs(gap) <= (JITTER * self.rate if at > first else 0):
                    gap = 0
                if gap > 0:
                    yield from _silence(gap, channels)
                    at += gap
                if len(block) > -gap:
                    block = block[-gap:] if gap < 0 else block
                    yield block
                    at += len(block)


def find(path: str | Path) -> Sound | None:
    """The first sound track of a sound file or a video; None where it has none. MediaError for what is neither."""
    path = Path(path)
    with _opened(path) as track:
        return track.describe(path) if track else None


@dataclass
class Track:
    """A file's sound track, open. origin: the time 0 of Sound in the container's time."""

    container: Any
    stream: Any
    kind: Kind
    origin: Fraction

    def seek(self, seconds: Fraction) -> None:
        if self.kind.container in EXACT_SEEK and seconds > 0:
            self.container.seek(int((seconds + self.origin) / self.stream.time_base), stream=self.stream)

    def packets(self) -> Iterator[Any]:
        """From where it was sought to."""
        yield from self.container.demux(self.stream)

    def decoded(self, rate: int, channels: int, budget: SoundBudget) -> Iterator[tuple[int, np.ndarray]]:
        """The number of its first sample, from time 0, and float32 [samples channels], frame by frame."""
        resample, known, following = None, None, 0
        for frame in self._frames():
            check_rate(frame.sample_rate, len(frame.layout.channels))
            budget.take(frame.samples, len(frame.layout.channels))
            kind = frame.format.name, frame.layout.name, frame.sample_rate
            if resample is None or kind != known:
                layout = "stereo" if channels == 2 else "mono"
                resample, known = library().AudioResampler(format="fltp", layout=layout, rate=rate), kind
            position = following if frame.pts is None else round(self.time_of(frame) * rate)
            blocks = [np.ascontiguousarray(each.to_ndarray().T) for each in resample.resample(frame)]
            if blocks:
                block = np.nan_to_num(np.concatenate(blocks), posinf=1, neginf=-1)
                yield position, block
                following = position + len(block)

    def time_of(self, timed: Any) -> Fraction:
        """Of a packet or a frame, from time 0."""
        return timed.pts * timed.time_base - self.origin

    def describe(self, path: Path) -> Sound:
        context = self.stream.codec_context
        first = next(self._frames(), None)
        if first is None:
            raise MediaError(f"has sound that cannot be decoded ({context.name})", where=end_of(path), remedy=REMEDY)
        check_rate(first.sample_rate, len(first.layout.channels))
        length = self.stream.duration and self.stream.duration * self.stream.time_base
        if not length and self.container.duration:
            length = Fraction(self.container.duration, library().time_base)
        return Sound(path, _family(context.name), first.sample_rate, len(first.layout.channels),
                     Fraction(0) if first.pts is None else self.time_of(first), length or None,
                     first.format.bytes > 2)

    def _frames(self) -> Iterator[Any]:
        for packet in self.packets():
            with suppress(library().FFmpegError):  # damaged
                yield from packet.decode()


def check_rate(rate: int, channels: int) -> None:
    """TooMuchError for more than is read."""
    if not 0 < rate <= SAMPLE_RATE or not 0 < channels <= CHANNELS:
        raise TooMuchError(f"has {channels} channels of {rate:,} samples per second, which are more than are read")


@contextmanager
def opened_track(path: Path) -> Iterator[Track]:
    """The file's sound. MediaError for what cannot be read, also while it is read, and where there is none."""
    with _opened(path) as track:
        if track is None:
            raise MediaError("has no sound", where=end_of(path), remedy=REMEDY)
        yield track


@contextmanager
def _opened(path: Path) -> Iterator[Track | None]:
    where = end_of(path)
    try:
        if path.exists() and not path.is_file():
            raise MediaError("is no file", where=where, remedy=REMEDY)
        with open(path, "rb") as file:
            found = sound_kind(file.read(HEAD))
            if found is None:
                raise MediaError("is no sound or video that can be read", where=where, remedy=REMEDY)
            file.seek(0)
            with opened(file, found.container, most_pixels=PIXELS) as container:
                yield _first_track(container, found)
    except TooMuchError as error:
        raise MediaError(str(error), where=where, remedy="Make it shorter or save it with fewer samples") from None
    except MediaError:
        raise
    except Exception as error:  # decoders raise anything at a damaged file
        raise MediaError(f"cannot be read ({getattr(error, 'strerror', None) or error})", where=where,
                         remedy=REMEDY) from error


def _first_track(container: Any, found: Kind) -> Track | None:
    stream = next(iter(container.streams.audio), None)
    if stream is None:
        return None
    options = stream.codec_context.options
    stream.codec_context.options = {**options, "max_samples": str(FRAME_SAMPLES)}
    timed = [each for each in container.streams.video if each.codec_context.name not in STILL_CODECS] or [stream]
    begin = timed[0].start_time
    return Track(container, stream, found, Fraction(0) if begin is None else begin * timed[0].time_base)


def _family(decoder: str) -> str:
    """The codec's name without which of ffmpeg's decoders reads it."""
    return decoder.removesuffix("float").removesuffix("_fixed").removeprefix("lib")


def _exact(seconds: float | Fraction) -> Fraction:
    return Fraction(seconds).limit_denominator(10**9)


def _silence(samples: int, channels: int) -> Iterator[np.ndarray]:
    while samples > 0:
        yield np.zeros((min(samples, BLOCK), channels), np.float32)
        samples -= BLOCK
