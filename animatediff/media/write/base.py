"""Base classes and helpers of all writers: options, clip properties, and messages for errors."""
from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np

from animatediff.disk import Part
from animatediff.errors import MediaError, quoted
from animatediff.media.sound import Sound
from animatediff.media.write.codecs import AUTO, CODECS, PRESETS

CORES = min(os.cpu_count() or 1, 8)  # threads that prepare frames; each holds one or two frames


class WriteError(MediaError):
    """Some files of a clip could not be written.

    lost: reason for each format that was not written. kept: the files that are complete.
    """

    def __init__(self, what: str, *, where: str = "", remedy: str = "", lost: dict[str, str] | None = None,
                 kept: list[Path] | None = None):
        super().__init__(what, where=where, remedy=remedy)
        self.lost, self.kept = lost or {}, kept or []


@dataclass(frozen=True)
class WriteOptions:
    """Quality options of the formats. The defaults are meant for archiving."""

    gif_palette: str = "clip"  # clip: one for all frames; frame: one for each; ffmpeg: palettegen and paletteuse
    gif_dither: bool = True
    mp4_crf: int = 18  # 0 (lossless) … 51
    mp4_preset: str = "medium"
    webm_crf: int = 24  # 0 … 63
    webm_pixels: str = "yuv420p"  # or yuv444p: full colour resolution
    webp_quality: int = 90  # 0 … 100
    webp_lossless: bool = False
    video_codec: str = AUTO  # for all videos; auto: the format's default
    video_crf: int = -1  # -1: mp4_crf for H.264 in MP4, webm_crf for VP9 in WebM, else the codec's default
    video_preset: str = AUTO  # auto: mp4_preset for MP4, else medium
    bit_depth: int = 8  # largest number of bits per channel; formats and frames may have fewer
    repeats: bool = False  # whether videos contain the frames as many times as the clip plays
    embed_text: bool = True  # whether pictures and videos contain the settings text
    on_white: bool = True  # formats without transparency show white there; False: the frame's own colours

    CHOICES: ClassVar[dict[str, tuple[object, ...] | range]] = {
        "gif_palette": ("clip", "frame", "ffmpeg"), "webm_pixels": ("yuv420p", "yuv444p"), "mp4_crf": range(52),
        "webm_crf": range(64), "webp_quality": range(101),
        "mp4_preset": PRESETS, "video_codec": (AUTO, *CODECS), "video_crf": range(-1, 64),
        "video_preset": (AUTO, *PRESETS), "bit_depth": (8, 10, 16),
    }

    def __post_init__(self) -> None:
        for name, choices in self.CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                allowed = (f"{choices.start} … {choices.stop - 1}" if isinstance(choices, range)
                           else ", ".join(map(str, choices)))
                raise MediaError(f"{quoted(value)} is not possible", where=name, remedy=f"Choose from {allowed}")


@dataclass(frozen=True)
class Clip:
    """Properties of a clip that are known before its first frame."""

    fps: Fraction
    loop: int = 0  # how many times it plays, 0 for endlessly
    metadata: str = ""  # settings text
    options: WriteOptions = field(default_factory=WriteOptions)
    sound: Sound | None = None

    @property
    def embedded(self) -> str:
        """The text that pictures and videos contain."""
        return self.metadata if self.options.embed_text else ""


class Writer:
    """Base class of writers, which receive a clip's frames one by one.

    `ready` prepares a frame. It does not use the file, so several frames can be prepared at once in threads. Then `add`
    writes the frames in order. The docstring of a subclass says how many frames it holds in memory.
    notes: messages on effects that a user may not expect.
    """

    format: ClassVar[str] = ""
    extension: ClassVar[str] = ""
    has_sound: ClassVar[bool] = False  # whether the file can contain sound
    has_alpha = False  # whether the file can contain transparency
    bits = 8  # largest number of bits per channel

    def __init__(self, path: Path, clip: Clip):
        self.path, self.clip, self.count = path, clip, 0
        self.notes: list[str] = []

    @classmethod
    def probe(cls, options: WriteOptions) -> None:
        """Raise MediaError if this format cannot be written on this machine, or not with these options."""

    @classmethod
    def place(cls, stem: Path) -> Path:
        """Return the path of the file. stem: folder and name without extension."""
        return stem.with_name(f"{stem.name}.{cls.extension}")

    @classmethod
    def check(cls, path: Path) -> None:
        """Raise MediaError if the file cannot be written at `path`."""
        if path.is_dir():
            raise MediaError("a folder of this name is in the way", where=str(path),
                             remedy="Choose another name or move the folder away")

    def ready(self, before: np.ndarray | None, frame: np.ndarray) -> Any:
        """Return a frame in the form that `add` takes.

        frame: uint8 [h w 3]. If `bits` is above 8 it may be uint16, and with `has_alpha` [h w 4].
        before: the previous frame, None for the first.
        """
        return frame

    def add(self, ready: Any) -> None:
        """Write the next frame, as returned by `ready`."""
        raise NotImplementedError

    def finish(self) -> list[Path]:
        """Complete the file, move it to its place, and return the written paths."""
        raise NotImplementedError

    def abort(self) -> list[Path]:
        """Delete incomplete files. Return the paths that are complete nevertheless."""
        raise NotImplementedError


class StreamWriter(Writer):
    """A writer of one file that grows frame by frame. A frame whose writing was interrupted is cut off at the end."""

    def __init__(self, path: Path, clip: Clip):
        super().__init__(path, clip)
        self.part = Part(path)
        self._whole = 0  # bytes up to the end of the last complete frame

    def append(self, data: bytes) -> None:
        """Write one frame, or the file's header, at once."""
        self.part.file.write(data)
        self._whole += len(data)

    def cut(self) -> BinaryIO:
        """Truncate the file after its last complete frame and return it, positioned at the end."""
        file = self.part.file
        file.flush()
        file.seek(self._whole)
        file.truncate()
        return file

    def abort(self) -> list[Path]:
        self.part.drop()
        return []


def changed(before: np.ndarray | None, now: np.ndarray, *, even: bool = False) -> tuple[int, int, int, int]:
    """Return the smallest rectangle (left, top, right, bottom) outside of which two frames are equal. Never empty.

    even: make left and top even, since WebP stores half of them.
    """
    height, width = now.shape[:2]
    if before is None:
        return 0, 0, width, height
    differs = before != now
    if differs.ndim == 3:
        differs = differs.any(axis=2)
    rows, columns = np.flatnonzero(differs.any(axis=1)), np.flatnonzero(differs.any(axis=0))
    if not len(rows):
        return 0, 0, 1, 1
    left, top = int(columns[0]), int(rows[0])
    if even:
        left, top = left & ~1, top & ~1
    return left, top, int(columns[-1]) + 1, int(rows[-1]) + 1


def fitted(frame: np.ndarray, bits: int, *, alpha: bool, on_white: bool = True) -> np.ndarray:
    """Return a frame, uint8 or uint16 [h w 3 or 4], as a writer takes it.

    Without `alpha`, transparent parts become white, or opaque if not `on_white`. With `bits` 8, the frame is reduced to
    8 bits.
    """
    if frame.shape[2] == 4 and not alpha and not on_white:
        frame = np.ascontiguousarray(frame[..., :3])
    elif frame.shape[2] == 4 and not alpha:
        most = np.iinfo(frame.dtype).max
        share = frame[..., 3:].astype(np.float32) / most
        frame = np.rint(frame[..., :3] * share + most * (1 - share)).astype(frame.dtype)
    if frame.dtype == np.uint16 and bits == 8:
        frame = ((frame.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return frame


def reason(error: BaseException) -> str:
    """Return the reason of an exception in words for users."""
    if isinstance(error, MediaError):
        return str(error)
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno) if error.errno in errno.errorcode else (error.strerror or str(error))
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def remedy(error: BaseException) -> str:
    """Return advice on an error of the operating system, or "" if there is none."""
    number = error.errno if isinstance(error, OSError) else None
    if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "Free some space or choose a folder on another disk"
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "Choose a folder in which you may write"
    if number in (errno.ENOTDIR, errno.EEXIST):
        return "A file is where a folder should be: choose another name"
    if number == errno.ENAMETOOLONG:
        return "Choose a shorter name"
    return ""
