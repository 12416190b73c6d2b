"""Write PNG files with 16 bits per channel. Pillow cannot write them in colour."""
from __future__ import annotations

import struct
import zlib

import numpy as np

from animatediff.media.metadata import png_chunk

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPE = {3: 2, 4: 6}  # by number of channels (PNG, 11.2.1)
_UP = 2  # each byte is stored as the difference from the one above it (PNG, 9.2)
_LEVEL = 6  # zlib's compression level


def chunks(pixels: np.ndarray) -> tuple[bytes, bytes]:
    """Return IHDR data and IDAT data of a picture, uint16 [h w 3 or 4]."""
    height, width, channels = pixels.shape
    rows = np.ascontiguousarray(pixels, ">u2").view(np.uint8).reshape(height, -1)
    stored = np.empty((height, rows.shape[1] + 1), np.uint8)
    stored[:, 0], stored[0, 1:] = _UP, rows[0]
    np.subtract(rows[1:], rows[:-1], out=stored[1:, 1:])
    return (struct.pack(">2I5B", width, height, 16, _COLOUR_TYPE[channels], 0, 0, 0),
            zlib.compress(stored.tobytes(), _LEVEL))


def picture(pixels: np.ndarray, text: bytes) -> bytes:
    """Return a complete PNG file. text: chunks to insert before the pixels."""
    header, data = chunks(pixels)
    return SIGNATURE + png_chunk(b"IHDR", header) + text + png_chunk(b"IDAT", data) + png_chunk(b"IEND", b"")
