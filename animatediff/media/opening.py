"""What a file or a request's text is that a user brings.

Told by its first bytes, so that nothing else than a picture or a video is ever opened: no list of other files, nothing
that an interpreter runs, and nothing of what else this Pillow or ffmpeg knows.
"""
from __future__ import annotations

import base64
import binascii
import re

import numpy as np
from PIL import Image

PICTURES = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF")
HEAD = 16  # bytes that tell
# The first bytes of a file (... where any do), the ending it gets, and the name of a video's container for ffmpeg.
_KINDS = ((rb"\x89PNG\r\n\x1a\n", "png", ""), (rb"\xff\xd8\xff", "jpg", ""), (rb"GIF8[79]a", "gif", ""),
          (rb"RIFF....WEBP", "webp", ""), (rb"BM", "bmp", ""), (rb"II\*\0|MM\0\*", "tif", ""),
          (rb"....ftyp", "mp4", "mp4"), (rb"\x1aE\xdf\xa3", "webm", "matroska"), (rb"RIFF....AVI ", "avi", "avi"))
_DATA_URI = re.compile(r"data:[\w./+;=-]*,", re.ASCII)


def kind(head: bytes) -> tuple[str, str] | None:
    """Of a file that begins so, the ending and, of a video, the container; None for what is neither."""
    return next(((end, box) for magic, end, box in _KINDS if re.match(magic, head[:HEAD], re.DOTALL)), None)


def ending(data: bytes) -> str:
    """What a file of these bytes is to end in."""
    return (kind(data) or ("",))[0]


def from_base64(text: str) -> bytes | None:
    """What a text says in base64, or as a data URI; None where it is none."""
    match = _DATA_URI.match(text)
    try:
        return base64.b64decode("".join(text[match.end() if match else 0:].split()), validate=True)
    except (binascii.Error, ValueError):
        return None


def eight_bits(image: Image.Image) -> Image.Image:
    """A picture of 16 bits in 8, which Pillow would cut off; others as they are."""
    if not image.mode.startswith("I"):
        return image
    return Image.fromarray((np.asarray(image).astype(np.float64) / 257).round().clip(0, 255).astype(np.uint8))
