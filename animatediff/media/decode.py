"""Decode the pictures of an open file one by one, composed and rotated as viewers show them."""
from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any, BinaryIO

from PIL import Image, ImageOps, features

from animatediff.errors import MediaError
from animatediff.media.budget import PIXELS, Budget, TooMuchError, check_size
from animatediff.media.opening import Kind
from animatediff.media.pyav import opened, video_stream
from animatediff.packages import extra

Transpose = Image.Transpose
Shown = Iterator[tuple[float, Callable[[], Image.Image]]]  # duration in seconds, and a function that returns a picture
GIF_DEFAULT = 100  # milliseconds of a frame without a duration
ALONE = ("JPEG", "BMP", "HEIF")  # one picture; phones append brightness maps or other lenses' pictures to a JPEG
COUNTED = 2**22  # bytes; in larger files counting the frames takes too long
HEIC_EXTRA = extra("photos", "pillow-heif")
# Transposition by the signs of a, b, c, d in a video's matrix (ISO/IEC 14496-12, 6.2.2).
_TURNS = {(-1, 0, 0, 1): Transpose.FLIP_LEFT_RIGHT, (1, 0, 0, -1): Transpose.FLIP_TOP_BOTTOM,
          (-1, 0, 0, -1): Transpose.ROTATE_180, (0, 1, -1, 0): Transpose.ROTATE_270, (0, -1, 1, 0): Transpose.ROTATE_90,
          (0, 1, 1, 0): Transpose.TRANSPOSE, (0, -1, -1, 0): Transpose.TRANSVERSE}


def shown(file: BinaryIO, found: Kind, budget: Budget) -> Shown:
    """Yield duration and picture of each frame of a file.

    Raises TooMuchError if the file exceeds `budget`. Decoders raise any kind of error for a damaged file.
    """
    file.seek(0)
    return _of_video(file, found, budget) if found.container else _of_picture(file, found, budget)


def still(file: BinaryIO, found: Kind) -> Image.Image:
    """Return the picture, or the first one of an animation. Its pixels are decoded when first accessed.

    Raises TooMuchError if it is too large.
    """
    file.seek(0)
    if found.picture == "HEIF":
        return _of_heif(file)
    if found.picture == "AVIF" and not ("avif" in features.modules and features.check("avif")):
        raise MediaError("is an AVIF picture, which this Pillow cannot read",
                         remedy="Save it as PNG or JPEG, or install Pillow 11.3 or later")
    try:
        image = Image.open(file, formats=[found.picture])
    except Image.DecompressionBombError:
        raise TooMuchError("has more pixels than are read") from None
    check_size(*image.size)
    return image


def _of_picture(file: BinaryIO, found: Kind, budget: Budget) -> Shown:
    with still(file, found) as image:
        if _size(file) < COUNTED and found.picture not in ALONE:
            with suppress(IndexError, EOFError, OSError, SyntaxError):  # a truncated file; its first frames can be read
                budget.expect(getattr(image, "n_frames", 1), *image.size)
        for index in range(1 if found.picture in ALONE else budget.frames + 1):
            budget.take(*image.size)
            try:
                image.seek(index)
            except EOFError:
                return
            image.load()
            yield (image.info.get("duration") or GIF_DEFAULT) / 1000, lambda: ImageOps.exif_transpose(image)


def _size(file: BinaryIO) -> int:
    at = file.tell()
    size = file.seek(0, 2)
    file.seek(at)
    return size


def _of_heif(file: BinaryIO) -> Image.Image:
    """Return the main picture of a HEIF file, rotated as its file says."""
    try:
        import pillow_heif  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise MediaError(f"is a HEIC picture, and the package pillow-heif cannot be imported ({error})",
                         remedy=f"Save it as PNG or JPEG, or install {HEIC_EXTRA}") from error
    photos = pillow_heif.open_heif(file, convert_hdr_to_8bit=True)
    check_size(*photos.size)
    return photos.to_pillow()  # the main picture, already rotated


def _of_video(file: BinaryIO, found: Kind, budget: Budget) -> Shown:
    with opened(file, found.container, most_pixels=PIXELS) as container:
        stream = video_stream(container)
        if stream is None:
            return
        check_size(stream.width or 0, stream.height or 0)
        before, seconds = None, float(1 / stream.average_rate) if stream.average_rate else 0.0
        turn = None
        for frame in container.decode(stream):
            budget.take(frame.width, frame.height)
            if before:
                seconds = max(0.0, (frame.time or 0) - (before.time or 0))
                yield seconds, partial(picture_of, before, stream, turn)
            else:
                turn = turn_of(frame)
            before = frame
        if before:
            yield seconds, partial(picture_of, before, stream, turn)


def picture_of(frame: Any, stream: Any, turn: Transpose | None) -> Image.Image:
    """Return a video frame as players show it: with square pixels and rotated as the file says.

    The mode is RGBA for pixel formats with transparency, else RGB.
    """
    transparent = any(component.is_alpha for component in frame.format.components)
    image = Image.fromarray(frame.to_ndarray(format="rgba"), "RGBA") if transparent else frame.to_image()
    shape = stream.sample_aspect_ratio or 1
    if shape > 0 and shape != 1:
        width = max(1, round(frame.width * shape))
        check_size(width, frame.height)
        image = image.resize((width, frame.height), Image.Resampling.BICUBIC)
    return image if turn is None else image.transpose(turn)


def turn_of(frame: Any) -> Transpose | None:
    """Return the rotation of a video from its first frame.

    Call it for one frame only: PyAV's side data and frame refer to each other, so the frame stays in memory until
    Python's garbage collector runs.
    """
    matrix = next((bytes(data) for data in frame.side_data if data.type.name == "DISPLAYMATRIX"), b"")
    if len(matrix) < 36:
        return None
    a, b, _, c, d, *_ = struct.unpack("=9i", matrix[:36])
    largest = max(map(abs, (a, b, c, d)))
    if not largest:
        return None
    return _TURNS.get((round(a / largest), round(b / largest), round(c / largest), round(d / largest)))

