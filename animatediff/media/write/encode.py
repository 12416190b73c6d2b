"""Write MP4, WebM, MOV and MKV with PyAV (ffmpeg's libraries from PyPI)."""
from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, NamedTuple

import numpy as np

from animatediff.disk import Part
from animatediff.errors import MediaError
from animatediff.media.metadata import VIDEO_KEY
from animatediff.media.pyav import EXTRA, format_of, library, place, video_frame
from animatediff.media.timing import duration
from animatediff.media.write import codecs, soundtrack
from animatediff.media.write.base import Clip, WriteOptions, Writer

# Codes of ITU-T H.273. 1: BT.709 (primaries, transfer, matrix). 13: sRGB (transfer). 0: RGB (matrix).
# Ranges of ffmpeg. 1: limited (16 … 235). 2: full.
_BT709, _SRGB, _RGB, _LIMITED, _FULL = 1, 13, 0, 1, 2
# Options of ffmpeg's scale filter: BT.709's matrix, which it does not take from the tags, and accurate rounding.
_SCALE = "out_color_matrix=bt709:out_range=tv:flags=bicubic+accurate_rnd+full_chroma_int"
_TAGS = "colorspace=bt709:range=tv:color_primaries=bt709:color_trc=bt709"
_RGB_TAGS = "colorspace=gbr:range=pc:color_primaries=bt709:color_trc=iec61966-2-1"


_VP9_ALPHA = ("webm", "matroska")  # containers that can store the transparency of VP9
_MOST_DELAY = 1000  # largest plausible difference of pts and dts in frames


class _Nameless:
    """An open file with a neutral name for ffmpeg, which takes some names for protocols and cannot decode others."""

    name = "clip"

    def __init__(self, file: BinaryIO):
        self.write, self.seek, self.tell = file.write, file.seek, file.tell


class Video(Writer):
    """Writer of a video file.

    Holds the frames of the encoder's lookahead (some tens), and a few bytes per frame for the index. If the clip is
    repeated, it holds all compressed frames.
    """

    has_sound = True
    container: ClassVar[str] = ""
    container_options: ClassVar[dict[str, str]] = {}

    def __init__(self, path: Path, clip: Clip):
        super().__init__(path, clip)
        self.codec = codecs.of_format(self.format, clip.options.video_codec)
        self.part = Part(path)
        self._output: Any = None
        self._stream: Any = None
        self._graph: Any = None
        self._sound: soundtrack.Soundtrack | None = None
        self._packets: list[_Timed] = []  # for repetition
        self._torn = False

    @classmethod
    def probe(cls, options: WriteOptions) -> None:
        """Encode two small frames in memory, since an encoder may be listed but not work."""
        av = library()
        trial = cls(Path(f"probe.{cls.extension}"), Clip(Fraction(8), metadata="{}", options=options))
        trial.crf  # noqa: B018 - raises an error for a crf that the codec does not have
        encoder = trial.codec.encoder()
        try:
            buffer = io.BytesIO()
            with av.open(buffer, "w", format=cls.container) as output:
                trial._open(output, np.zeros((64, 64, 3), np.uint8))
                for _ in range(2):
                    trial._encode(np.zeros((64, 64, 3), np.uint8))
                trial._mux(None)
        except (av.FFmpegError, ValueError, OSError) as error:
            raise MediaError(f"the encoder {encoder} does not work ({error})", where=cls.format,
                             remedy=f"PyAV's wheels on PyPI contain it: install {EXTRA}") from error
        if not buffer.tell():
            raise MediaError(f"the encoder {encoder} gave nothing", where=cls.format, remedy=f"Reinstall {EXTRA}")

    @property
    def has_alpha(self) -> bool:
        return self.pixels(alpha=True).alpha

    @property
    def bits(self) -> int:
        return self.pixels(alpha=False).bits

    @property
    def crf(self) -> int:
        """The crf to use. Raises MediaError if the codec does not support it."""
        asked, codec = self.clip.options.video_crf, self.codec
        if asked > codec.most_crf:
            raise MediaError(f"{asked} is more than {codec.name} has", where="video_crf",
                             remedy=f"Use 0 to {codec.most_crf}, or -1 for the default, {codec.crf}")
        return asked if asked >= 0 else self._own_crf()

    @property
    def preset(self) -> str:
        asked = self.clip.options.video_preset
        return self._own_preset() if asked == codecs.AUTO else asked

    def _own_crf(self) -> int:
        return self.codec.crf or 0

    def _own_preset(self) -> str:
        return "medium"

    def pixels(self, *, alpha: bool) -> codecs.Pixels:
        alpha = alpha and (self.codec.name != "VP9" or self.container in _VP9_ALPHA)
        return self.codec.best(self.clip.options.bit_depth, alpha=alpha)

    def add(self, ready: np.ndarray) -> None:
        self._torn = True
        if self._output is None:
            av = library()
            self._output = av.open(_Nameless(self.part.file), "w", format=self.container, io_open=self._read_again,
                                   options=self.container_options)
            self._open(self._output, ready)
            self._heard(self._add_sound)
        self._encode(ready)
        self._hear(self.count)
        self._torn = False

    def finish(self) -> list[Path]:
        if self._torn:
            raise MediaError("writing was interrupted inside a frame", where=str(self.path))
        self._mux(None)
        for play in range(1, self._plays):
            for packet in self._packets:
                self._output.mux(packet.at(play * self.count / self.clip.fps))
            self._hear((play + 1) * self.count)
        self._end_sound(self.count * self._plays)
        output, self._output = self._output, None
        output.close()
        return [self.part.keep()]

    @property
    def _plays(self) -> int:
        """Number of times that the frames are written."""
        return max(1, self.clip.loop) if self.clip.options.repeats else 1

    def _add_sound(self) -> None:
        if self.clip.sound is not None:
            self._sound = soundtrack.soundtrack(self.clip.sound, self._output, self.container)

    def _hear(self, frames: int) -> None:
        """Write the sound of the first `frames` frames."""
        self._heard(lambda: self._sound and self._sound.upto(frames / self.clip.fps))

    def _heard(self, write: Callable[[], object]) -> None:
        """Call `write`, which writes sound. If the sound file is damaged, the clip continues without, with a note."""
        try:
            write()
        except (MediaError, library().FFmpegError) as error:
            self.notes.append(f"the sound ends after {duration(float(self.count / self.clip.fps))}: {error}")
            self._end_sound(self.count)

    def _end_sound(self, frames: int) -> None:
        sound, self._sound = self._sound, None
        if sound is not None:
            sound.end(frames / self.clip.fps)
            sound.close()

    def abort(self) -> list[Path]:
        if self._sound is not None:
            self._sound.close()
        output, self._output = self._output, None
        self._graph = self._stream = self._sound = None
        if output is not None:
            with suppress(Exception):  # writing the trailer may fail, but the file is deleted anyway
                output.close()
        self.part.drop()
        return []

    def _read_again(self, *_: Any) -> BinaryIO:
        """Return the file for reading. faststart reads it to move the frames behind the index."""
        self.part.file.flush()
        return open(self.part.hidden, "rb")

    def _open(self, output: Any, frame: np.ndarray) -> None:
        """Set up stream and pixel conversion for frames like this one."""
        pixels = self.pixels(alpha=frame.shape[2] == 4)
        height, width = (-(-side // step) * step for side, step in zip(frame.shape, pixels.step))
        if self.clip.embedded:
            output.metadata[VIDEO_KEY] = self.clip.embedded
        options = self.codec.options(encoder := self.codec.encoder(), self.crf, self.preset)
        if pixels.alpha and encoder == "libvpx-vp9":
            options["auto-alt-ref"] = "0"  # not supported with transparency
        stream = output.add_stream(encoder, rate=self.clip.fps, options=options)
        if pixels.alpha and self.container in _VP9_ALPHA:
            stream.metadata["alpha_mode"] = "1"
        stream.width, stream.height, stream.pix_fmt = width, height, pixels.name
        stream.time_base = stream.codec_context.time_base = 1 / self.clip.fps
        context = stream.codec_context
        context.bit_rate = 0  # quality is set by crf alone
        context.thread_type = "FRAME"  # PyAV's own choice, slices of a frame, is slower and compresses worse
        context.color_primaries = _BT709
        context.colorspace, context.color_trc = (_RGB, _SRGB) if pixels.rgb else (_BT709, _BT709)
        context.color_range = _FULL if pixels.rgb else _LIMITED
        if self.codec.tag and self.container in ("mp4", "mov"):
            context.codec_tag = self.codec.tag
        self._output, self._stream = output, stream
        self._graph = _conversion(width, height, format_of(frame), pixels, self.clip.fps)

    def _encode(self, frame: np.ndarray) -> None:
        height, width = frame.shape[:2]
        if frame.shape[:2] != (self._stream.height, self._stream.width):
            missing = (0, self._stream.height - height), (0, self._stream.width - width), (0, 0)
            frame = np.pad(frame, missing, mode="edge")
        picture = video_frame(frame, self.count, self.clip.fps)
        self._graph.vpush(picture)
        converted = self._graph.vpull()
        place(converted, self.count, self.clip.fps)
        converted.pict_type = 0  # let the encoder choose
        self._mux(converted)
        self.count += 1

    def _mux(self, frame: Any) -> None:
        for packet in self._stream.encode(frame):
            if packet.dts is None or not 0 <= packet.pts - packet.dts <= _MOST_DELAY:
                packet.dts = packet.pts  # x265 leaves it undefined in clips of one or two frames
            if self._plays > 1:
                self._packets.append(_Timed(packet, packet.pts, packet.dts, packet.duration, packet.time_base))
            self._output.mux(packet)


class _Timed(NamedTuple):
    """A packet with the encoder's times, since muxing changes the packet's times."""

    packet: Any
    pts: int
    dts: int
    duration: int
    time_base: Fraction

    def at(self, seconds: Fraction) -> Any:
        """Return the packet, delayed by `seconds`."""
        packet, late = self.packet, round(seconds / self.time_base)
        packet.time_base, packet.duration = self.time_base, self.duration
        packet.pts, packet.dts = self.pts + late, self.dts + late
        return packet


class Mp4(Video):
    """Writer of MP4. By default H.264 with the index first (faststart), which every browser and phone plays."""

    format, extension, container = "MP4", "mp4", "mp4"
    container_options: ClassVar[dict[str, str]] = {"movflags": "+faststart"}

    def _own_crf(self) -> int:
        return self.clip.options.mp4_crf if self.codec.name == "H.264" else super()._own_crf()

    def _own_preset(self) -> str:
        return self.clip.options.mp4_preset


class Webm(Video):
    """Writer of WebM, by default with VP9."""

    format, extension, container = "WEBM", "webm", "webm"
    container_options: ClassVar[dict[str, str]] = {"fflags": "+bitexact"}  # no random identifiers

    def _own_crf(self) -> int:
        return self.clip.options.webm_crf if self.codec.name == "VP9" else super()._own_crf()

    def pixels(self, *, alpha: bool) -> codecs.Pixels:
        best = super().pixels(alpha=alpha)
        full = self.codec.name == "VP9" and self.clip.options.webm_pixels == "yuv444p" and best.name == "yuv420p"
        return replace(best, name="yuv444p") if full else best


class Mov(Video):
    """Writer of MOV, by default with ProRes, for editing."""

    format, extension, container = "MOV", "mov", "mov"


class Mkv(Video):
    """Writer of MKV, by default with FFV1, which is lossless."""

    format, extension, container = "MKV", "mkv", "matroska"
    container_options: ClassVar[dict[str, str]] = {"fflags": "+bitexact"}


def _conversion(width: int, height: int, source: str, pixels: codecs.Pixels, fps: Fraction) -> Any:
    """Return a filter graph that converts frames from ffmpeg's pixel format `source` to `pixels`."""
    graph = library().filter.Graph()
    nodes = [graph.add_buffer(width=width, height=height, format=source, time_base=1 / fps)]
    nodes += [] if pixels.rgb else [graph.add("scale", _SCALE)]
    nodes += [graph.add("format", pixels.name), graph.add("setparams", _RGB_TAGS if pixels.rgb else _TAGS),
              graph.add("buffersink")]
    graph.link_nodes(*nodes).configure()
    return graph
