"""Write animated WebP (RFC 9649, section 2.7) chunk by chunk, with Pillow's WebP encoder.

Pillow's `save_all` is not used, because it takes a list of all frames. Here each frame is written before the next one.
"""
from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
from PIL import Image, features

from animatediff.errors import MediaError
from animatediff.media.metadata import exif
from animatediff.media.timing import ticks
from animatediff.media.write.base import StreamWriter, WriteOptions, changed

_ANIMATED, _HAS_EXIF, _HAS_ALPHA = 0x02, 0x08, 0x10
_REPLACE = 0x02  # replace the pixels below, without blending
_LARGEST = 16383
Ready = tuple[tuple[int, int, int, int], bytes, bool]  # rectangle, picture chunks, whether there is transparency


class Webp(StreamWriter):
    """Writer of animated WebP. Each frame stores only the rectangle that changed. Holds no frame."""

    format, extension = "WEBP", "webp"
    has_alpha = True

    @classmethod
    def probe(cls, options: WriteOptions) -> None:
        if not features.check("webp"):
            raise MediaError("this build of Pillow has no WebP", where=cls.format,
                             remedy="Install Pillow from PyPI: pip install --force-reinstall pillow")

    def ready(self, before: np.ndarray | None, frame: np.ndarray) -> Ready:
        height, width = frame.shape[:2]
        if max(height, width) > _LARGEST:
            raise MediaError(f"{width}×{height} is more than WebP can hold", where=str(self.path),
                             remedy=f"Choose another format or at most {_LARGEST} pixels a side")
        left, top, right, bottom = box = changed(before, frame, even=True)
        options = self.clip.options
        buffer = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(frame[top:bottom, left:right])).save(
            buffer, "WEBP", lossless=options.webp_lossless, quality=options.webp_quality, method=4)
        return box, _bitstream(buffer.getvalue()), frame.shape[2] == 4

    def add(self, ready: Ready) -> None:
        (left, top, right, bottom), bitstream, alpha = ready
        width, height = right - left, bottom - top  # the first frame is the whole picture
        if self.count == 0:
            flags = _ANIMATED | (_HAS_EXIF if self.clip.embedded else 0) | (_HAS_ALPHA if alpha else 0)
            self.append(b"RIFF\0\0\0\0WEBP"
                        + _chunk(b"VP8X", struct.pack("<I", flags) + _three(width - 1) + _three(height - 1))
                        + _chunk(b"ANIM", struct.pack("<IH", 0, self.clip.loop)))
        head = b"".join(map(_three, (left // 2, top // 2, width - 1, height - 1,
                                     ticks(self.count, self.clip.fps, 1000))))
        self.append(_chunk(b"ANMF", head + bytes([_REPLACE]) + bitstream))
        self.count += 1

    def finish(self) -> list[Path]:
        file = self.cut()
        if self.clip.embedded:
            file.write(_chunk(b"EXIF", exif(self.clip.embedded)))
        size = file.tell() - 8
        file.seek(4)
        file.write(struct.pack("<I", size))
        return [self.part.keep()]


def _three(value: int) -> bytes:
    return value.to_bytes(3, "little")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) & 1)


def _bitstream(data: bytes) -> bytes:
    """Return the picture chunks (VP8, VP8L, ALPH) of a still WebP file, with their headers."""
    at, kept = 12, []
    while at + 8 <= len(data):
        kind, length = struct.unpack("<4sI", data[at:at + 8])
        end = at + 8 + length + (length & 1)
        if kind in (b"VP8 ", b"VP8L", b"ALPH"):
            kept.append(data[at:end])
        at = end
    return b"".join(kept)
