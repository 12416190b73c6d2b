"""Masks that users bring: a picture, or an animated picture or video with a mask for each frame.

What is refused is not quoted.
"""
from __future__ import annotations

import io
import os
from bisect import bisect_right
from collections.abc import Callable, Iterator
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

from animatediff.errors import MediaError, end_of
from animatediff.media.opening import HEAD, PICTURES, eight_bits, from_base64, kind
from animatediff.media.pyav import library

REMEDY = "Give a PNG, JPEG, WebP, GIF, BMP or TIFF, or an MP4, MOV, WebM, MKV or AVI"
LARGEST = 512  # pixels of a side that are kept; a clip's latents have no more up to 4096 pixels
GIF_DEFAULT = 100  # milliseconds of a frame that does not say
Shown = Iterator[tuple[float, Callable[[], Image.Image]]]  # seconds, and what makes the picture


def read(source: str | Path | bytes, frames: int, name: str = "") -> tuple[list[np.ndarray], tuple[int, ...]]:
    """The masks of a clip of `frames`: pictures uint8 [h w], 255 for white, and which of them each frame has.

    `source`: a path, or a file's bytes. An animation is stretched over the clip: each frame gets what is shown at the
    same share of the way. MediaError says `name`, or the path.
    """
    where = f"motion mask {end_of(name or ('' if isinstance(source, bytes) else source))}".strip()
    with _opened(source, where) as file:
        found = kind(file.read(HEAD))
        if found is None:
            raise MediaError("is neither a picture nor a video", where=where, remedy=REMEDY)
        shown = partial(_of_video if found[1] else _of_picture, file, found[1])
        try:
            ends = list(accumulate(seconds for seconds, _ in shown()))
            if not ends:
                raise MediaError("holds no frames", where=where, remedy=REMEDY)
            if not ends[-1]:  # no times
                ends = list(range(1, len(ends) + 1))
            at = [min(bisect_right(ends, (i + 0.5) / frames * ends[-1]), len(ends) - 1) for i in range(frames)]
            wanted = sorted(set(at))
            pictures = [_gray(make()) for i, (_, make) in enumerate(shown()) if i in wanted]
        except MediaError:
            raise
        except Exception:  # decoders raise anything at a damaged file
            raise MediaError("is damaged, or of a kind that cannot be read", where=where, remedy=REMEDY) from None
    return pictures, tuple(map(wanted.index, at))


def decoded(text: str) -> bytes | None:
    """A picture or video in base64, or as a data URI; None where the text is none."""
    data = from_base64(text)
    return data if data and kind(data) else None


def without_home(path: str) -> str:
    """A path as clips carry it: found again by the same user, who is not named."""
    home, written = str(Path.home()), Path(path)
    return f"~/{written.relative_to(home).as_posix()}" if written.is_relative_to(home) else path


def _opened(source: str | Path | bytes, where: str) -> BinaryIO:
    if isinstance(source, bytes):
        return io.BytesIO(source)
    try:
        path = Path(os.path.expanduser(source))
        if path.is_file():  # a pipe would have us wait
            return open(path, "rb")
        what = "is a folder" if path.is_dir() else "there is no such file"
    except OSError as error:
        what = f"cannot be read ({error.strerror})"
    raise MediaError(what, where=where, remedy=REMEDY)


def _of_picture(file: BinaryIO, _: str) -> Shown:
    file.seek(0)
    with Image.open(file, formats=PICTURES) as image:
        for i in range(getattr(image, "n_frames", 1)):
            image.seek(i)
            image.load()
            yield (image.info.get("duration") or GIF_DEFAULT) / 1000, image.copy


def _of_video(file: BinaryIO, container: str) -> Shown:
    file.seek(0)
    with library().open(file, format=container) as opened:
        [stream] = opened.streams.video[:1] or [None]
        if stream is None:
            return
        before = None
        for frame in opened.decode(stream):
            if before:
                yield max(0.0, (frame.time or 0) - (before.time or 0)), before.to_image
            before = frame
        if before:
            yield float(1 / stream.average_rate) if stream.average_rate else 0.0, before.to_image


def _gray(image: Image.Image) -> np.ndarray:
    """Black where the picture is transparent."""
    image = eight_bits(ImageOps.exif_transpose(image)).convert("RGBA")
    image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image).convert("L")
    image.thumbnail((LARGEST, LARGEST), Image.Resampling.BILINEAR)
    return np.asarray(image)
