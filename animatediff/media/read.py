"""Pictures that users bring: files, folders, animated pictures, videos, and pictures in a request's text."""
from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image, ImageOps, ImageSequence

from animatediff.errors import MediaError
from animatediff.media.opening import HEAD, PICTURES, eight_bits, from_base64, kind
from animatediff.media.pyav import library

ENDINGS = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff")
REMEDY = "Give a picture, a folder of pictures, or a video"
WHITE = (255, 255, 255, 255)
UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError)
_DIGITS = re.compile(r"(\d+)")


def pictures(path: str | Path) -> Iterator[Image.Image]:
    """RGB pictures of one file or of a folder, in the order of their numbers, one by one. MediaError names the file."""
    path = Path(path)
    if path.is_dir():
        files = sorted((file for file in path.iterdir() if file.suffix.lower() in ENDINGS), key=_numbered)
        if not files:
            raise MediaError("the folder has no pictures", where=str(path), remedy="Give one picture for each frame")
        for file in files:
            yield next(_of_file(file))
        return
    yield from _of_file(path)


def decoded(text: str) -> Image.Image:
    """A picture in base64, or as a data URI. ValueError says what is wrong, as the predicate of a sentence."""
    data = from_base64(text)
    if data is None:
        raise ValueError("is no picture in base64")
    try:
        with Image.open(io.BytesIO(data), formats=PICTURES) as image:
            return eight_bits(ImageOps.exif_transpose(image)).convert("RGBA")
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
    image = eight_bits(image).convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, WHITE), image).convert("RGB")


def _of_file(path: Path) -> Iterator[Image.Image]:
    try:
        if path.exists() and not path.is_file():  # a pipe would have us wait
            raise MediaError("is no file", where=str(path), remedy=REMEDY)
        with open(path, "rb") as file:
            found = kind(file.read(HEAD))
            if found is None:
                raise MediaError("is neither a picture nor a video", where=str(path), remedy=REMEDY)
            file.seek(0)
            yield from _of_video(file, found[1]) if found[1] else _of_picture(file)
    except MediaError:
        raise
    except Exception as error:  # decoders raise anything at a damaged file
        raise MediaError(f"cannot be read ({getattr(error, 'strerror', None) or error})", where=str(path),
                         remedy=REMEDY) from error


def _of_picture(file: BinaryIO) -> Iterator[Image.Image]:
    with Image.open(file, formats=PICTURES) as image:
        for frame in ImageSequence.Iterator(image):
            yield flat(ImageOps.exif_transpose(frame))


def _of_video(file: BinaryIO, container: str) -> Iterator[Image.Image]:
    with library().open(file, format=container) as opened:
        if not opened.streams.video:
            raise ValueError("it has no pictures")
        for frame in opened.decode(video=0):
            yield frame.to_image()


def _numbered(path: Path) -> list[Any]:
    """2.png before 10.png."""
    return [int(part) if part.isdecimal() else part.lower() for part in _DIGITS.split(path.name)]
