"""MP4 and WebM through PyAV (ffmpeg's libraries from PyPI)."""
from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np

from animatediff.disk import Part
from animatediff.errors import MediaError
from animatediff.media.metadata import VIDEO_KEY
from animatediff.media.pyav import EXTRA, library, place, video_frame
from animatediff.media.timing import duration
from animatediff.media.write import soundtrack
from animatediff.media.write.base import Clip, Writer

# ITU-T H.273: 1 is BT.709 for primaries, transfer and matrix alike; range 1 is limited (16 … 235).
_BT709, _LIMITED = 1, 1


class _Nameless:
    """An open file whose name ffmpeg is not told: some are protocols to it, others no text."""

    name = "clip"

    def __init__(self, file: BinaryIO):
        self.write, self.seek, self.tell = file.write, file.seek, file.tell


class Video(Writer):
    """A video file. Holds the frames that the encoder looks ahead (some tens), and an index of bytes per frame."""

    has_sound = True
    container: ClassVar[str] = ""
    codec: ClassVar[str] = ""
    container_options: ClassVar[dict[str, str]] = {}

    def __init__(self, path: Path, clip: Clip):
        super().__init__(path, clip)
        self.part = Part(path)
        self._output: Any = None
        self._stream: Any = None
        self._graph: Any = None
        self._sound: soundtrack.Soundtrack | None = None
        self._torn = False

    @classmethod
    def probe(cls) -> None:
        """Encode two small frames in memory: an encoder may be listed and yet not work."""
        av = library()
        trial = cls(Path(f"probe.{cls.extension}"), Clip(Fraction(8), metadata="{}"))
        try:
            buffer = io.BytesIO()
            with av.open(buffer, "w", format=cls.container) as output:
                trial._open(output, (32, 32))
                for _ in range(2):
                    trial._encode(np.zeros((32, 32, 3), np.uint8))
                output.mux(trial._stream.encode(None))
        except (av.FFmpegError, ValueError, OSError) as error:
            raise MediaError(f"the encoder {cls.codec} does not work ({error})", where=cls.format,
                             remedy=f"PyAV's wheels on PyPI contain it: install {EXTRA}") from error
        if not buffer.tell():
            raise MediaError(f"the encoder {cls.codec} gave nothing", where=cls.format, remedy=f"Reinstall {EXTRA}")

    def pixels(self) -> str:
        return "yuv420p"

    def encoder_options(self) -> dict[str, str]:
        raise NotImplementedError

    def add(self, ready: np.ndarray) -> None:
        self._torn = True
        if self._output is None:
            av = library()
            self._output = av.open(_Nameless(self.part.file), "w", format=self.container, io_open=self._read_again,
                                   options=self.container_options)
            self._open(self._output, ready.shape[:2])
            self._heard(self._add_sound)
        self._encode(ready)
        self._heard(lambda: self._sound and self._sound.upto(self._seconds))
        self._torn = False

    def finish(self) -> list[Path]:
        if self._torn:
            raise MediaError("writing was interrupted inside a frame", where=str(self.path))
        self._output.mux(self._stream.encode(None))
        self._end_sound()
        output, self._output = self._output, None
        output.close()
        return [self.part.keep()]

    @property
    def _seconds(self) -> Fraction:
        """The end of the frames so far."""
        return self.count / self.clip.fps

    def _add_sound(self) -> None:
        if self.clip.sound is not None:
            self._sound = soundtrack.soundtrack(self.clip.sound, self._output, self.container)

    def _heard(self, write: Callable[[], object]) -> None:
        """Write sound. Where its file is damaged, the clip goes on without, and a note says so."""
        try:
            write()
        except (MediaError, library().FFmpegError) as error:
            self.notes.append(f"the sound ends after {duration(float(self._seconds))}: {error}")
            self._end_sound()

    def _end_sound(self) -> None:
        if self._sound is not None:
            self._sound.end(self._seconds)
            self._sound.close()
        self._sound = None

    def abort(self) -> list[Path]:
        if self._sound is not None:
            self._sound.close()
        self._sound = None
        output, self._output = self._output, None
        self._graph = self._stream = None
        if output is not None:
            with suppress(Exception):  # about the trailer of a file that is thrown away
                output.close()
        self.part.drop()
        return []

    def _read_again(self, *_: Any) -> BinaryIO:
        """The file so far, which faststart reads while it moves the frames behind the index."""
        self.part.file.flush()
        return open(self.part.hidden, "rb")

    def _open(self, output: Any, size: tuple[int, int]) -> None:
        """Set up stream and conversion for frames of (height, width)."""
        step = 2 if self.pixels() == "yuv420p" else 1
        height, width = (-(-side // step) * step for side in size)
        if self.clip.metadata:
            output.metadata[VIDEO_KEY] = self.clip.metadata
        stream = output.add_stream(self.codec, rate=self.clip.fps, options=self.encoder_options())
        stream.width, stream.height, stream.pix_fmt = width, height, self.pixels()
        stream.time_base = stream.codec_context.time_base = 1 / self.clip.fps
        context = stream.codec_context
        context.bit_rate = 0  # quality is set by crf alone
        context.thread_type = "FRAME"  # PyAV's own choice, slices of a frame, is slower and compresses worse
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = _LIMITED
        self._output, self._stream = output, stream
        self._graph = _rgb_to_yuv(width, height, self.pixels(), self.clip.fps)

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
        for packet in self._stream.encode(converted):
            self._output.mux(packet)
        self.count += 1


class Mp4(Video):
    """H.264 in MP4, index first (faststart), as every browser and phone plays it."""

    format, extension, container, codec = "MP4", "mp4", "mp4", "libx264"
    container_options: ClassVar[dict[str, str]] = {"movflags": "+faststart"}

    def encoder_options(self) -> dict[str, str]:
        # Where x264 picks algorithms by CPU, it reads memory that nobody has set: small clips differ from run to run.
        return {"crf": str(self.clip.options.mp4_crf), "preset": self.clip.options.mp4_preset,
                "x264-params": "cpu-independent=1"}


class Webm(Video):
    """VP9 in WebM."""

    format, extension, container, codec = "WEBM", "webm", "webm", "libvpx-vp9"
    container_options: ClassVar[dict[str, str]] = {"fflags": "+bitexact"}  # no random identifiers

    def pixels(self) -> str:
        return self.clip.options.webm_pixels

    def encoder_options(self) -> dict[str, str]:
        return {"crf": str(self.clip.options.webm_crf), "b": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1"}


def _rgb_to_yuv(width: int, height: int, pixels: str, fps: Fraction) -> Any:
    """swscale with BT.709's matrix; left to itself it converts by BT.601 whatever the tags say."""
    graph = library().filter.Graph()
    graph.link_nodes(
        graph.add_buffer(width=width, height=height, format="rgb24", time_base=1 / fps),
        graph.add("scale", "out_color_matrix=bt709:out_range=tv:flags=bicubic+accurate_rnd+full_chroma_int"),
        graph.add("format", pixels),
        graph.add("setparams", "range=tv:colorspace=bt709:color_primaries=bt709:color_trc=bt709"),
        graph.add("buffersink")).configure()
    return graph
