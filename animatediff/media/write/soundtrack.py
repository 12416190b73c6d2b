"""Write the sound of a video: copied packets, or encoded samples that end exactly with the clip."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from animatediff.errors import MediaError
from animatediff.media.pyav import library
from animatediff.media.sound import Sound, Track, opened_track

OPUS_RATE = 48000
AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)


@dataclass(frozen=True)
class Encoding:
    """How the sound of a container is encoded."""

    codec: str
    copied: tuple[str, ...] = ()  # codecs whose packets can be copied
    rates: tuple[int, ...] = ()  # samples per second that the codec supports; empty for any
    bit_rate: int = 0  # of stereo, in bits per second; 0 for the codec's default
    deep: str = ""  # codec for more than 16 bits, if it is another

    def rate(self, rate: int) -> int:
        """Return the smallest supported rate that is at least `rate`, or the largest one."""
        return next((each for each in sorted(self.rates) if each >= rate), max(self.rates)) if self.rates else rate


ENCODINGS = {
    "mp4": Encoding("aac", ("aac", "mp3"), AAC_RATES, 192_000),
    "webm": Encoding("libopus", ("opus", "vorbis"), (OPUS_RATE,), 160_000),
    "mov": Encoding("pcm_s16le", deep="pcm_s24le"),  # lossless and supported by video editors
    "matroska": Encoding("flac", ("opus", "vorbis")),
}


def soundtrack(sound: Sound, output: Any, container: str) -> Soundtrack:
    """Return the soundtrack of a file that is about to be written. Adds its stream to `output`."""
    encoding = ENCODINGS[container]
    whole = not sound.loop and sound.end is None and sound.begin == 0 and sound.offset >= 0
    if whole and sound.codec in encoding.copied:
        return Copied(sound, output)
    return Encoded(sound, output, encoding)


class Soundtrack:
    """Base class of soundtracks. The sound is written as far as there are frames."""

    def upto(self, seconds: Fraction) -> None:
        """Write the sound before this time. Raises MediaError if the file cannot be read up to it."""
        raise NotImplementedError

    def end(self, seconds: Fraction) -> None:
        """Write the remaining sound before this time, the clip's end."""

    def close(self) -> None:
        """Close the sound's file."""


class Copied(Soundtrack):
    """Copies the packets of a sound from its beginning.

    In WebM and MKV, the last packet may play a few hundredths of a second longer than the clip. In MP4, its stored
    duration ends with the clip.
    """

    def __init__(self, sound: Sound, output: Any):
        self._output, self._opened = output, ExitStack()
        track = self._opened.enter_context(opened_track(sound.path))
        add = getattr(output, "add_stream_from_template", None)  # PyAV 14
        self._stream = add(track.stream) if add else output.add_stream(template=track.stream)
        self._packets = self._timed(track)
        self._next = next(self._packets, None)

    def upto(self, seconds: Fraction) -> None:
        while self._next is not None and self._next[0] + self._length(self._next[1]) <= seconds:
            self._mux(self._next[1])
            self._next = next(self._packets, None)

    def end(self, seconds: Fraction) -> None:
        if self._next is not None and self._next[0] < seconds:  # the packet during which the clip ends
            begin, packet = self._next
            packet.duration = max(1, int((seconds - begin) / packet.time_base))
            self._mux(packet)

    @staticmethod
    def _length(packet: Any) -> Fraction:
        return (packet.duration or 0) * packet.time_base

    def _mux(self, packet: Any) -> None:
        packet.stream = self._stream
        self._output.mux(packet)

    def close(self) -> None:
        self._opened.close()

    @staticmethod
    def _timed(track: Track) -> Iterator[tuple[Fraction, Any]]:
        """Yield the packets with their times in seconds, from time 0."""
        shift, last = round(track.origin / track.stream.time_base), None
        for packet in track.packets():
            if packet.pts is None or not packet.size or (last is not None and packet.pts <= last):
                continue
            last = packet.pts
            packet.pts -= shift
            packet.dts = packet.pts
            yield packet.pts * packet.time_base, packet


class Encoded(Soundtrack):
    """Encodes the samples of a sound. It ends exactly with the clip."""

    def __init__(self, sound: Sound, output: Any, encoding: Encoding):
        av = library()
        self._output, self._written = output, 0
        self._rate, self._channels = encoding.rate(sound.rate), min(sound.channels, 2)
        self._layout = "stereo" if self._channels == 2 else "mono"
        codec = encoding.deep if sound.deep and encoding.deep else encoding.codec
        self._stream = output.add_stream(codec, rate=self._rate)
        context = self._stream.codec_context
        context.layout = self._layout
        if encoding.bit_rate:
            context.bit_rate = encoding.bit_rate * self._channels // 2
        if codec == "flac":
            context.format = "s32" if sound.deep else "s16"
        resample = av.AudioResampler(format="fltp", layout=self._layout, rate=self._rate)
        self._samples = sound.samples(self._channels)
        self._blocks = self._resampled(sound.rate, resample)
        self._waiting = np.zeros((0, self._channels), np.float32)

    def upto(self, seconds: Fraction) -> None:
        due = round(seconds * self._rate) - self._written
        while due > 0:
            if not len(self._waiting):
                block = next(self._blocks, None)
                if block is None:
                    return
                self._waiting = block
            now, self._waiting = self._waiting[:due], self._waiting[due:]
            self._mux(_audio_frame(now, self._layout, self._rate, self._written))
            self._written += len(now)
            due -= len(now)

    def end(self, seconds: Fraction) -> None:
        self._mux(None)

    def close(self) -> None:
        self._samples.close()

    def _mux(self, frame: Any) -> None:
        for packet in self._stream.encode(frame):
            self._output.mux(packet)

    def _resampled(self, rate: int, resample: Any) -> Iterator[np.ndarray]:
        """Yield the samples at the encoder's rate."""
        at = 0
        for block in self._samples:
            if rate == self._rate:
                yield block
                continue
            for frame in resample.resample(_audio_frame(block, self._layout, rate, at)):
                yield frame.to_ndarray().T
            at += len(block)
        if at:
            for frame in resample.resample(None):
                yield frame.to_ndarray().T


def _audio_frame(block: np.ndarray, layout: str, rate: int, at: int) -> Any:
    """Return float32 [samples channels] as a frame for ffmpeg. at: number of its first sample."""
    frame = library().AudioFrame.from_ndarray(np.ascontiguousarray(block.T), format="fltp", layout=layout)
    frame.sample_rate, frame.pts, frame.time_base = rate, at, Fraction(1, rate)
    return frame


def probe(container: str) -> None:
    """Raise MediaError if the sound of a container cannot be encoded on this machine."""
    av, codec = library(), ENCODINGS[container].codec
    try:
        av.Codec(codec, "w")
    except ValueError as error:
        raise MediaError(f"the encoder {codec} is not there ({error})", where="audio",
                         remedy="Install PyAV's wheel from PyPI: pip install --force-reinstall av") from error
