"""A Pillow reader that opens MP4 and WebM files as their first frame.

The gallery's buttons (save, send to img2img, inpaint, extras) open the shown file with Pillow, which reads no video.
This reader returns the first frame, with the clip's infotext as `info["parameters"]`.
"""
from __future__ import annotations

from typing import Any

from PIL import Image

from animatediff.media import metadata
from animatediff.media.budget import PIXELS, check_size
from animatediff.media.decode import picture_of, turn_of
from animatediff.media.opening import HEAD, kind
from animatediff.media.pyav import opened

FORMAT = "ANIMATEDIFF_CLIP"


def add() -> None:
    """Register the reader."""
    reader: Any = first_frame  # returns an Image; Pillow's own readers return an ImageFile
    Image.register_open(FORMAT, reader, is_video)


def remove() -> None:
    """Unregister the reader."""
    Image.OPEN.pop(FORMAT, None)
    if FORMAT in Image.ID:
        Image.ID.remove(FORMAT)


def is_video(head: bytes) -> bool:
    """Whether a file that begins with these 16 bytes is MP4, WebM or Matroska."""
    found = kind(head)
    return found is not None and found.container in ("mp4", "matroska")


def first_frame(file: Any, name: Any) -> Image.Image:
    """Return the first frame of an open video file. SyntaxError without one, so that Pillow tries its other readers.

    name: path of the file, which becomes the picture's `filename`, as in Pillow's own readers. gradio 4 opens the files
    of the gallery, and its buttons find them by that.
    """
    try:
        file.seek(0)
        found = kind(file.read(HEAD))
        if found is None or not found.container:
            raise ValueError("another kind of file")
        file.seek(0)
        with opened(file, found.container, most_pixels=PIXELS) as container:
            stream = container.streams.video[0]
            check_size(stream.width, stream.height)
            frame = next(container.decode(stream))
            picture: Any = picture_of(frame, stream, turn_of(frame))
            text = metadata.of_container(container)
    except Exception as error:
        raise SyntaxError(f"no video that can be read: {error}") from error
    picture.format, picture.filename = FORMAT, str(name or "")
    if text:
        picture.info[metadata.PNG_KEY] = text
    return picture
