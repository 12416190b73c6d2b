"""Masks that users bring: a picture, or an animated picture or video with a mask for each frame.

What is refused is not quoted.
"""
from __future__ import annotations

import io
import os
from bisect import bisect_right
from itertools import accumulate, islice
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from animatediff.errors import MediaError, end_of
from animatediff.media import budget, decode
from animatediff.media.opening import HEAD, READ, eight_bits, from_base64, kind

REMEDY = f"Give {READ}"
LARGEST = 512  # pixels of a side that are kept; a clip's latents have no more up to 4096 pixels


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
        passes = [budget.of_mask(video=bool(found.container)) for _ in range(2)]
        try:
            ends = list(accumulate(seconds for seconds, _ in decode.shown(file, found, passes[0])))
            if not ends:
                raise MediaError("holds no frames", where=where, remedy=REMEDY)
            if not ends[-1]:  # no times
                ends = list(range(1, len(ends) + 1))
            at = [min(bisect_right(ends, (i + 0.5) / frames * ends[-1]), len(ends) - 1) for i in range(frames)]
            wanted = sorted(asked := set(at))
            again = islice(decode.shown(file, found, passes[1]), wanted[-1] + 1)
            pictures = [_small(make()) for i, (_, make) in enumerate(again) if i in asked]
        except MediaError as error:
            raise MediaError(error.what, where=where, remedy=error.remedy) from None
        except budget.TooMuchError as error:
            raise MediaError(str(error), where=where, remedy="Make it smaller or shorter") from None
        except Exception:  # decoders raise anything at a damaged file
            raise MediaError("is damaged, or of a kind that cannot be read", where=where, remedy=REMEDY) from None
    return pictures, tuple(map(wanted.index, at))


def decoded(text: str) -> bytes | None:
    """A picture or video in base64, or as a data URI; None where the text is none."""
    try:
        data = from_base64(text)
    except budget.TooMuchError as error:
        raise MediaError(str(error), where="motion mask", remedy="Make it smaller") from None
    return data if data and kind(data[:HEAD]) else None


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


def gray(image: Image.Image) -> Image.Image:
    """A mask, black where the picture is transparent."""
    image = _plain(image)
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image)
    return image.convert("L")


def _plain(image: Image.Image) -> Image.Image:
    """In one of the three modes that resizing and compositing work in."""
    image = eight_bits(image)
    if image.mode in ("L", "RGB", "RGBA"):
        return image
    return image.convert("RGBA" if {"A", "a"} & {*image.getbands()} or "transparency" in image.info else "RGB")


def _small(image: Image.Image) -> np.ndarray:
    """Made small before anything else, so that a photo costs no more than it must."""
    image = _plain(image)
    image.thumbnail((LARGEST, LARGEST), Image.Resampling.BILINEAR)
    return np.asarray(gray(image))
