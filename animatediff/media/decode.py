"""Pictures of an open file, one by one, as they are meant to be seen: whole and turned."""
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
Shown = Iterator[tuple[float, Callable[[], Image.Image]]]  # seconds, and what makes the picture
GIF_DEFAULT = 100  # milliseconds of a frame that does not say
ALONE = ("JPEG", "BMP", "HEIF")  # what phones put behind a JPEG is a map of its brightness, or what its other lens saw
COUNTED = 2**22  # bytes; in larger files counting the frames would take long itself
HEIC_EXTRA = extra("photos", "pillow-heif")
# Where a pixel's x and y grow to in the picture that is shown (ISO/IEC 14496-12, 6.2.2): signs of a, b, c, d.
_TURNS = {(-1, 0, 0, 1): Transpose.FLIP_LEFT_RIGHT, (1, 0, 0, -1): Transpose.FLIP_TOP_BOTTOM,
          (-1, 0, 0, -1): Transpose.ROTATE_180, (0, 1, -1, 0): Transpose.ROTATE_270, (0, -1, 1, 0): Transpose.ROTATE_90,
          (0, 1, 1, 0): Transpose.TRANSPOSE, (0, -1, -1, 0): Transpose.TRANSVERSE}


def shown(file: BinaryIO, found: Kind, budget: Budget) -> Shown:
    """TooMuchError where it costs more than `budget`. A decoder raises anything at a damaged file."""
    file.seek(0)
    return _of_video(file, found, budget) if found.container else _of_picture(file, found, budget)


def still(file: BinaryIO, found: Kind) -> Image.Image:
    """The picture, or the first of an animation, which is decoded when its pixels are asked for. TooMuchError for its
    size."""
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
            with suppress(IndexError, EOFError, OSError, SyntaxError):  # cut off; its first frames are still there
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
    """Its main picture, turned."""
    try:
        import pillow_heif  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise MediaError(f"is a HEIC picture, and the package pillow-heif cannot be imported ({error})",
                         remedy=f"Save it as PNG or JPEG, or install {HEIC_EXTRA}") from error
    photos = pillow_heif.open_heif(file, convert_hdr_to_8bit=True)
    check_size(*photos.size)
    return photos.to_pillow()  # of the main picture, with the turns that its file asks for


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
    """A video's frame as players show it: with square pixels, turned as the camera was; RGB, or RGBA if some of it is
    transparent."""
    transparent = any(component.is_alpha for component in frame.format.components)
    image = Image.fromarray(frame.to_ndarray(format="rgba"), "RGBA") if transparent else frame.to_image()
    shape = stream.sample_aspect_ratio or 1
    if shape > 0 and shape != 1:
        width = max(1, round(frame.width * shape))
        check_size(width, frame.height)
        image = image.resize((width, frame.height), Image.Resampling.BICUBIC)
    return image if turn is None else image.transpose(turn)


def turn_of(frame: Any) -> Transpose | None:
    """How the frames of a video are turned, by its first one. PyAV's side data and frame refer to each other, so that a
    frame which has been asked stays in memory until Python looks for such circles."""
    matrix = next((bytes(data) for data in frame.side_data if data.type.name == "DISPLAYMATRIX"), b"")
    if len(matrix) < 36:
        return None
    a, b, _, c, d, *_ = struct.unpack("=9i", matrix[:36])
    largest = max(map(abs, (a, b, c, d)))
    if not largest:
        return None
    return _TURNS.get((round(a / largest), round(b / largest), round(c / largest), round(d / largest)))

