"""Pictures that users bring: files, folders, animated pictures, videos, and pictures in a request's text."""
from __future__ import annotations

import base64
import binascii
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps, ImageSequence

from ..errors import MediaError

WHITE = (255, 255, 255, 255)
DATA_URI = re.compile(r"data:[\w./+;=-]*,", re.ASCII)
UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError)
_DIGITS = re.compile(r"(\d+)")


def pictures(path: str | Path) -> Iterator[Image.Image]:
    """RGB pictures of one file or of a folder, in the order of their numbers, one by one. MediaError names the file."""
    path = Path(path)
    if path.is_dir():
        known = Image.registered_extensions()
        files = sorted((file for file in path.iterdir() if file.suffix.lower() in known), key=_numbered)
        if not files:
            raise MediaError("the folder has no pictures", where=str(path), remedy="Give one picture for each frame")
        for file in files:
            yield next(_of_file(file))
        return
    yield from _of_file(path)


def decoded(text: str) -> Image.Image:
    """A picture in base64, or as a data URI. ValueError says what is wrong, as the predicate of a sentence."""
    match = DATA_URI.match(text)
    try:
        data = base64.b64decode("".join(text[match.end() if match else 0:].split()), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("is no picture in base64") from None
    try:
        with Image.open(io.BytesIO(data)) as image:
            return ImageOps.exif_transpose(image).convert("RGBA")
    except UNREADABLE:
        raise ValueError("is base64, but not of a picture that can be read") from None


def fitted(image: Image.Image, width: int, height: int, *, crop: bool = True) -> Image.Image:
    """In this size; `crop` cuts the sides that are too long, else the picture is stretched."""
    if image.size == (width, height):
        return image
    if crop:
        return ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)
    return image.resize((width, height), Image.Resampling.LANCZOS)


def flat(image: Image.Image) -> Image.Image:
    """RGB, on white where the picture is transparent."""
    if image.mode == "RGB":
        return image
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, WHITE), image).convert("RGB")


def _of_file(path: Path) -> Iterator[Image.Image]:
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise MediaError(f"cannot be read ({error.strerror})", where=str(path),
                         remedy="Give a picture, a folder of pictures, or a video") from error
    try:
        image = Image.open(path)
    except UNREADABLE as error:
        if isinstance(error, Image.DecompressionBombError):
            raise _damaged(path, error) from error
        yield from _of_video(path)
        return
    with image:
        try:
            for frame in ImageSequence.Iterator(image):
                yield flat(ImageOps.exif_transpose(frame))
        except UNREADABLE as error:
            raise _damaged(path, error) from error


def _of_video(path: Path) -> Iterator[Image.Image]:
    from .encode import library

    av = library()
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise MediaError("is neither a picture nor a video", where=str(path), remedy="Give another file")
            for frame in container.decode(video=0):
                yield frame.to_image()
    except av.FFmpegError as error:
        raise MediaError(f"is neither a picture nor a video ({error.strerror or error})", where=str(path),
                         remedy="Give another file") from error


def _damaged(path: Path, error: BaseException) -> MediaError:
    return MediaError(f"cannot be read ({error})", where=str(path), remedy="Take another file")


def _numbered(path: Path) -> list[Any]:
    """2.png before 10.png."""
    return [int(part) if part.isdecimal() else part.lower() for part in _DIGITS.split(path.name)]
