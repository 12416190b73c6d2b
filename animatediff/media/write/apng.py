"""Write animated PNG (W3C PNG, third edition, sections 4.9 and 11.3.6) chunk by chunk, with Pillow's PNG encoder."""
from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
from PIL import Image

from animatediff.media.metadata import png_chunk, png_text
from animatediff.media.timing import apng_delay
from animatediff.media.write import deep_png
from animatediff.media.write.base import Clip, StreamWriter, changed

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COUNT_AT = len(_SIGNATURE) + 25  # offset of acTL, after IHDR with 13 bytes of data and 12 bytes around them
Ready = tuple[tuple[int, int, int, int], bytes, bytes]  # rectangle, IHDR data, IDAT data


class Apng(StreamWriter):
    """Writer of APNG. Each frame stores only the rectangle that changed. Holds no frame."""

    format, extension = "APNG", "apng"
    has_alpha, bits = True, 16

    def __init__(self, path: Path, clip: Clip):
        super().__init__(path, clip)
        self._sequence = 0

    def ready(self, before: np.ndarray | None, frame: np.ndarray) -> Ready:
        box = changed(before, frame)
        return box, *_compressed(frame[box[1]:box[3], box[0]:box[2]])

    def add(self, ready: Ready) -> None:
        box, header, pixels = ready
        if self.count == 0:
            self.append(_SIGNATURE + png_chunk(b"IHDR", header) + self._control() + png_text(self.clip.embedded))
        size_and_place = (box[2] - box[0], box[3] - box[1], box[0], box[1])
        # dispose 0: leave the picture as it is; blend 0: replace
        data = png_chunk(b"fcTL", struct.pack(">5I2H2B", self._sequence, *size_and_place, *apng_delay(self.clip.fps),
                                              0, 0))
        if self.count == 0:
            data += png_chunk(b"IDAT", pixels)
        else:
            data += png_chunk(b"fdAT", struct.pack(">I", self._sequence + 1) + pixels)
        self.append(data)
        self._sequence += 1 if self.count == 0 else 2
        self.count += 1

    def _control(self) -> bytes:
        return png_chunk(b"acTL", struct.pack(">2I", self.count, self.clip.loop))

    def finish(self) -> list[Path]:
        file = self.cut()
        file.write(png_chunk(b"IEND", b""))
        file.seek(_COUNT_AT)
        file.write(self._control())
        return [self.part.keep()]


def _compressed(pixels: np.ndarray) -> tuple[bytes, bytes]:
    """Return IHDR data and joined IDAT data of a picture, uint8 or uint16 [h w 3 or 4]."""
    if pixels.dtype == np.uint16:
        return deep_png.chunks(pixels)
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG")
    data, at, header, parts = buffer.getvalue(), len(_SIGNATURE), b"", []
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at:at + 8])
        body = data[at + 8:at + 8 + length]
        if kind == b"IHDR":
            header = body
        elif kind == b"IDAT":
            parts.append(body)
        at += 12 + length
    return header, b"".join(parts)
