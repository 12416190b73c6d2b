"""Write GIF89a block by block, with Pillow's LZW encoder.

Pillow's `save_all` is not used: it holds all frames in memory and merges equal frames. Here every frame is in the file,
with its own delay.
"""
from __future__ import annotations

import io
import math
import struct
import tempfile
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from animatediff.errors import MediaError
from animatediff.media.metadata import gif_comment
from animatediff.media.timing import gif_delay
from animatediff.media.write import palette as palettes
from animatediff.media.write.base import Clip, StreamWriter, changed
from animatediff.media.write.ffmpeg_palette import Palette

_LARGEST = 65535
_TABLE_OF_256 = 0xF7  # table present, 8 bits of colour resolution, 2 ** (7 + 1) entries


class Gif(StreamWriter):
    """Writer of animated GIF. Holds a few frames. One palette for the clip needs two passes, with frames on disk."""

    format, extension = "GIF", "gif"

    def __init__(self, path: Path, clip: Clip):
        super().__init__(path, clip)
        self._waiting: tuple[Spool, palettes.Histogram | Palette] | None = None  # input of the second pass

    def ready(self, before: np.ndarray | None, frame: np.ndarray) -> Any:
        if max(frame.shape[:2]) > _LARGEST:
            raise MediaError(f"{frame.shape[1]}×{frame.shape[0]} is more than a GIF can hold", where=str(self.path),
                             remedy="Choose another format")
        options = self.clip.options
        return _own_palette(frame, options.gif_dither) if options.gif_palette == "frame" else frame

    def add(self, ready: Any) -> None:
        style = self.clip.options.gif_palette
        if style == "frame":
            indices, colours = ready
            if self.count == 0:
                self.append(self._opening(indices.shape, None))
            self.append(_picture(indices, (0, 0), gif_delay(self.count, self.clip.fps), colours))
        else:
            if self._waiting is None:
                counted = Palette(self.clip.fps) if style == "ffmpeg" else palettes.Histogram()
                self._waiting = Spool(self.path.parent), counted
            spool, counted = self._waiting
            counted.add(ready)  # before `spool.add`, since every frame in the spool must have been counted
            spool.add(ready)
        self.count += 1

    def finish(self) -> list[Path]:
        if self._waiting is not None:
            self._second_pass(*self._waiting)
            self._waiting[0].close()
        self.cut().write(b"\x3b")
        return [self.part.keep()]

    def abort(self) -> list[Path]:
        if self._waiting is not None:
            self._waiting[0].close()
        return super().abort()

    def _second_pass(self, spool: Spool, counted: palettes.Histogram | Palette) -> None:
        dither = self.clip.options.gif_dither
        if isinstance(counted, Palette):
            frames = counted.mapped(iter(spool), dither)
        else:
            exact, colours = counted.exact, counted.palette()
            book = _book(colours)  # one for all frames, because Pillow caches looked-up colours in it
            frames = ((_mapped(frame, book, exact, dither), colours) for frame in spool)
        before = None
        for index, (indices, colours) in enumerate(_ahead(frames)):
            if before is None:
                self.append(self._opening(indices.shape, colours))
            left, top, right, bottom = changed(before, indices)
            self.append(_picture(indices[top:bottom, left:right], (left, top), gif_delay(index, self.clip.fps)))
            before = indices

    def _opening(self, shape: tuple[int, ...], colours: np.ndarray | None) -> bytes:
        """Return the file's header: screen, palette, loop extension and settings text.

        The loop extension counts repetitions: plays minus one.
        """
        height, width = shape[:2]
        data = b"GIF89a" + struct.pack("<HH3B", width, height, 0x70 if colours is None else _TABLE_OF_256, 0, 0)
        data += b"" if colours is None else _table(colours)
        if self.clip.loop != 1:
            data += b"\x21\xff\x0bNETSCAPE2.0\x03\x01" + struct.pack("<H", max(self.clip.loop - 1, 0)) + b"\0"
        return data + gif_comment(self.clip.embedded)


class Spool:
    """Frames in an unnamed temporary file in the folder of the written file. It is deleted when the process ends."""

    def __init__(self, folder: Path):
        self._file = tempfile.TemporaryFile(prefix=".animatediff-", dir=folder)  # noqa: SIM115
        self._shape: tuple[int, ...] = ()
        self._count = 0

    def add(self, frame: np.ndarray) -> None:
        """Append one frame, uint8 [h w 3]. If this fails, the spool is unchanged."""
        self._file.seek(self._count * frame.nbytes)
        self._file.write(np.ascontiguousarray(frame).data)
        self._shape = frame.shape
        self._count += 1

    def __iter__(self) -> Iterator[np.ndarray]:
        size = math.prod(self._shape)
        for index in range(self._count):
            self._file.seek(index * size)
            yield np.frombuffer(self._file.read(size), np.uint8).reshape(self._shape)

    def close(self) -> None:
        with suppress(OSError):  # a full disk may fail to flush, but the data is no longer needed
            self._file.close()


def _ahead(items: Iterator[Any]) -> Iterator[Any]:
    """Yield the items, computed ahead in a thread while the caller uses the previous ones."""
    with ThreadPoolExecutor(1) as thread:
        coming = deque(thread.submit(next, items, None) for _ in range(2))
        while (item := coming.popleft().result()) is not None:
            coming.append(thread.submit(next, items, None))
            yield item


def _table(colours: np.ndarray) -> bytes:
    """Return a colour table of 256 entries from [n 3]. The remaining entries repeat the last colour."""
    data = np.ascontiguousarray(colours, np.uint8).tobytes()
    return data + data[-3:] * (palettes.SIZE - len(colours))


def _picture(indices: np.ndarray, place: tuple[int, int], delay: int, colours: np.ndarray | None = None) -> bytes:
    """Return one frame: graphic control (do not dispose), descriptor, optional colour table, LZW data.

    delay: duration in hundredths of a second.
    """
    height, width = indices.shape
    flags = 0 if colours is None else 0x87
    return (b"\x21\xf9\x04" + struct.pack("<BHB", 0x04, delay, 0) + b"\0"
            + b"\x2c" + struct.pack("<4HB", *place, width, height, flags)
            + (b"" if colours is None else _table(colours)) + _lzw(indices))


def _lzw(indices: np.ndarray) -> bytes:
    """Return LZW data of uint8 [h w]: the bytes between descriptor and trailer in a still GIF by Pillow."""
    buffer = io.BytesIO()
    # Saved as grey levels, so that Pillow has no palette to optimize and encodes the bytes unchanged.
    Image.fromarray(np.ascontiguousarray(indices)).save(buffer, "GIF", optimize=False, interlace=False)
    data = buffer.getvalue()
    at = 13 + (3 << (data[10] & 7) + 1 if data[10] & 0x80 else 0)
    while data[at] == 0x21:  # extensions
        at += 2
        while data[at]:
            at += data[at] + 1
        at += 1
    flags = data[at + 9]
    at += 10 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    return data[at:-1]


def _book(colours: np.ndarray) -> Image.Image:
    """Return a palette image for Pillow's `quantize`."""
    book = Image.new("P", (1, 1))
    book.putpalette(_table(colours))
    return book


def _mapped(frame: np.ndarray, book: Image.Image, exact: np.ndarray | None, dither: bool) -> np.ndarray:
    """Return the palette indices of a frame [h w 3], uint8 [h w]."""
    if exact is not None:
        return np.searchsorted(exact, palettes.packed(frame)).astype(np.uint8)
    how = Image.Dither.FLOYDSTEINBERG if dither else Image.Dither.NONE
    return np.asarray(Image.fromarray(frame).quantize(palette=book, dither=how))


def _own_palette(frame: np.ndarray, dither: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return indices [h w] and palette [n 3] of one frame with its own palette."""
    histogram = palettes.Histogram()
    histogram.add(frame)
    colours = histogram.palette()
    return _mapped(frame, _book(colours), histogram.exact, dither), colours
