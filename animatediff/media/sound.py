"""Find the sound track of a file, and decode its samples for a range of time."""
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
STILL_CODECS = ("png", "mjpeg", "bmp", "gif", "webp", "tiff")  # codecs of cover art
EXACT_SEEK = ("mp4", "matroska", "wav", "flac", "aiff", "caf")  # containers with an index or a constant sample size
RUN_IN = Fraction(1)  # seconds decoded before `begin`, for codecs that depend on earlier packets
JITTER = Fraction(1, 20)  # seconds by which a packet's time may differ from the end of the previous packet
BLOCK = 2**16  # samples of silence in one block


@dataclass(frozen=True)
class Sound:
    """A file's sound from `begin` to `end`.

    All times are in seconds. Time 0 is the first frame of the file's video, or the first sample of a file without
    video.
    """

    path: Path
    codec: str  # ffmpeg's name
    rate: int  # samples per second
    channels: int
    offset: Fraction = Fraction(0)  # time of the first sample
    seconds: Fraction | None = None  # duration of the track; None if the file does not contain it
    deep: bool = False  # whether samples have more than 16 bits
    begin: Fraction = Fraction(0)
    end: Fraction | None = None  # None for the file's end
    loop: bool = False  # whether the sound repeats in a longer clip

    def part(self, begin: float | Fraction, end: float | Fraction | None = None, *, loop: bool = False) -> Sound:
        """Return the part of this sound between two times of the file."""
        return replace(self, begin=_exact(begin), end=None if end is None else _exact(end), loop=loop)

    def samples(self, channels: int | None = None) -> Generator[np.ndarray, None, None]:
        """Yield the samples from `begin` on in blocks, float32 [samples channels], at the file's own rate.

        channels: 1 or 2, by default as in the file, but at most 2.
        Damaged packets become silence. Raises MediaError if the file cannot be read.
        """
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
        """Yield the samples of one pass over the file, from `begin` on."""
        with opened_track(self.path) as track:
            first = round(self.begin * self.rate)
            track.seek(self.begin - RUN_IN)
            at = first  # number of the next sample to yield, from time 0
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
    """Return the first sound track of a sound file or video, or None if it has none.

    Raises MediaError for other files.
    """
    path = Path(path)
    with _opened(path) as track:
        return track.describe(path) if track else None


@dataclass
class Track:
    """An open sound track."""

    container: Any
    stream: Any
    kind: Kind
    origin: Fraction  # time in the container, in seconds, that is time 0 of Sound

    def seek(self, seconds: Fraction) -> None:
        """Seek to a time, if the container supports exact seeking. Otherwise stay at the beginning."""
        if self.kind.container in EXACT_SEEK and seconds > 0:
            self.container.seek(int((seconds + self.origin) / self.stream.time_base), stream=self.stream)

    def packets(self) -> Iterator[Any]:
        """Yield the packets from the current position on."""
        yield from self.container.demux(self.stream)

    def decoded(self, rate: int, channels: int, budget: SoundBudget) -> Iterator[tuple[int, np.ndarray]]:
        """Yield blocks of samples: the number of the first sample, from time 0, and float32 [samples channels]."""
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
        """Return the time of a packet or frame in seconds, from time 0."""
        return timed.pts * timed.time_base - self.origin

    def describe(self, path: Path) -> Sound:
        """Return the properties of the track. Raises MediaError if no packet can be decoded."""
        context = self.stream.codec_context
        first = next(self._frames(), None)
        if first is None:
            raise MediaError(f"has sound that is empty or cannot be decoded ({context.name})", where=end_of(path),
                             remedy=REMEDY)
        check_rate(first.sample_rate, len(first.layout.channels))
        length = self.stream.duration and self.stream.duration * self.stream.time_base
        if not length and self.container.duration:
            length = Fraction(self.container.duration, library().time_base)
        return Sound(path, _family(context.name), first.sample_rate, len(first.layout.channels),
                     Fraction(0) if first.pts is None else self.time_of(first), length or None,
                     first.format.bytes > 2)

    def _frames(self) -> Iterator[Any]:
        for packet in self.packets():
            with suppress(library().FFmpegError):  # skip damaged packets
                yield from packet.decode()


def check_rate(rate: int, channels: int) -> None:
    """Raise TooMuchError if the sample rate or the number of channels exceeds the limits."""
    if not 0 < rate <= SAMPLE_RATE or not 0 < channels <= CHANNELS:
        raise TooMuchError(f"has {channels} channels of {rate:,} samples per second, which are more than are read")


@contextmanager
def opened_track(path: Path) -> Iterator[Track]:
    """Open the file's sound track. Raises MediaError without one, and for read errors inside the block as well."""
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
    except Exception as error:  # decoders raise any error for a damaged file
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
    """Return the codec's name for a decoder's name, such as mp3 for mp3float."""
    return decoder.removesuffix("float").removesuffix("_fixed").removeprefix("lib")


def _exact(seconds: float | Fraction) -> Fraction:
    return Fraction(seconds).limit_denominator(10**9)


def _silence(samples: int, channels: int) -> Iterator[np.ndarray]:
    while samples > 0:
        yield np.zeros((min(samples, BLOCK), channels), np.float32)
        samples -= BLOCK
