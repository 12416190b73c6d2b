"""MP4 and WebM files where the host opens pictures: Pillow shows their first frame.

The gallery's buttons (save, send to img2img, inpaint, extras) open the file that is shown with Pillow, which reads no
video. While this reader is registered it gives the first frame, and the clip's infotext as `info["parameters"]`.
"""
from __future__ import annotations

from typing import Any

from PIL import Image

from animatediff.media import metadata
from animatediff.media.pyav import library

FORMAT = "ANIMATEDIFF_CLIP"
# ISO base media files that are videos; AVIF and HEIC are pictures with a name of their own in this place.
_BRANDS = (b"isom", b"iso2", b"iso4", b"iso5", b"iso6", b"mp41", b"mp42", b"avc1", b"M4V ")


def add() -> None:
    """Register the reader."""
    Image.register_open(FORMAT, first_frame, is_video)


def remove() -> None:
    """Forget the reader."""
    Image.OPEN.pop(FORMAT, None)
    if FORMAT in Image.ID:
        Image.ID.remove(FORMAT)


def is_video(head: bytes) -> bool:
    """Whether a file that begins with these 16 bytes is MP4, WebM or Matroska."""
    return head.startswith(b"\x1aE\xdf\xa3") or (head[4:8] == b"ftyp" and head[8:12] in _BRANDS)


def first_frame(file: Any, name: Any) -> Image.Image:
    """The first frame of an open video file. SyntaxError, by which Pillow goes on to other readers, if it has none."""
    try:
        av = library()
        with av.open(file, metadata_errors="replace") as container:
            frame = next(container.decode(video=0), None)
            text = metadata.of_container(container)
    except Exception as error:
        raise SyntaxError(f"no video that can be read: {error}") from error
    if frame is None:
        raise SyntaxError("a video without frames")
    picture = frame.to_image()
    picture.format = FORMAT
    if text:
        picture.info[metadata.PNG_KEY] = text
    return picture
