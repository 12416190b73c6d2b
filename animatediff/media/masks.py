"""Read motion masks: a picture, or an animation or video with a mask for each frame.

Error messages never quote the content of a file.
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
from animatediff.media.opening import HEAD, READ, eight_bits, kind

REMEDY = f"Give {READ}"
LARGEST = 512  # longest side of a stored mask in pixels; latents of clips up to 4096 pixels are no larger


def read(source: str | Path | bytes, frames: int, name: str = "") -> tuple[list[np.ndarray], tuple[int, ...]]:
    """Return the masks of a clip: pictures, uint8 [h w] with 255 for white, and the number of the picture per frame.

    source: a path, or a file's bytes.
    frames: number of frames in the clip. An animation is stretched over the clip.
    name: name of the mask in errors, by default the path.
    Raises MediaError if the mask cannot be read.
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
            if not ends[-1]:  # no frame has a duration
                ends = list(range(1, len(ends) + 1))
            at = [min(bisect_right(ends, (i + 0.5) / frames * ends[-1]), len(ends) - 1) for i in range(frames)]
            wanted = sorted(asked := set(at))
            again = islice(decode.shown(file, found, passes[1]), wanted[-1] + 1)
            pictures = [_small(make()) for i, (_, make) in enumerate(again) if i in asked]
        except MediaError as error:
            raise MediaError(error.what, where=where, remedy=error.remedy) from None
        except budget.TooMuchError as error:
            raise MediaError(str(error), where=where, remedy="Make it smaller or shorter") from None
        except Exception:  # decoders raise any error for a damaged file
            raise MediaError("is damaged, or of a kind that cannot be read", where=where, remedy=REMEDY) from None
    return pictures, tuple(map(wanted.index, at))


def without_home(path: str) -> str:
    """Return a path as it is stored in clips: with ~ instead of the home folder, which contains the user's name."""
    home, written = str(Path.home()), Path(path)
    return f"~/{written.relative_to(home).as_posix()}" if written.is_relative_to(home) else path


def _opened(source: str | Path | bytes, where: str) -> BinaryIO:
    if isinstance(source, bytes):
        return io.BytesIO(source)
    try:
        path = Path(os.path.expanduser(source))
        if path.is_file():  # opening a pipe would block
            return open(path, "rb")
        what = "is a folder" if path.is_dir() else "there is no such file"
    except OSError as error:
        what = f"cannot be read ({error.strerror})"
    raise MediaError(what, where=where, remedy=REMEDY)


def gray(image: Image.Image) -> Image.Image:
    """Return a picture as grey mask, black where it is transparent."""
    image = _plain(image)
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image)
    return image.convert("L")


def _plain(image: Image.Image) -> Image.Image:
    """Return a picture in mode L, RGB or RGBA, which resizing and compositing support."""
    image = eight_bits(image)
    if image.mode in ("L", "RGB", "RGBA"):
        return image
    return image.convert("RGBA" if {"A", "a"} & {*image.getbands()} or "transparency" in image.info else "RGB")


def _small(image: Image.Image) -> np.ndarray:
    """Return a picture as grey mask of at most LARGEST pixels a side. It is resized first, to save time and memory."""
    image = _plain(image)
    image.thumbnail((LARGEST, LARGEST), Image.Resampling.BILINEAR)
    return np.asarray(gray(image))
