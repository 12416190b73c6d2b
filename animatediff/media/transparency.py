"""The alpha channels of pictures that are read one by one, frames that get them, and their interpolation."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from animatediff.media.interpolate import Method
from animatediff.media.read import alpha_of, fitted, flat
from animatediff.media.stored import StoredPictures
from animatediff.media.write import base

OPAQUE = 255


def parted(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Return the picture in RGB on white, and its alpha channel; None for an opaque picture."""
    return flat(image), alpha_of(image)


class AlphaChannels:
    """Collects alpha channels in one size. Nothing is stored while all pictures are opaque."""

    def __init__(self, size: tuple[int, int], fit: str):
        """size: width and height. fit: as in read.fitted; the area that "pad" adds is transparent."""
        self.size, self.fit = size, fit
        self.pictures: StoredPictures | None = None  # uint8 [f h w]; None if all are opaque
        self._opaque: list[tuple[int, int]] = []  # sizes of the pictures before the first transparent one

    def add(self, alpha: Image.Image | None, size: tuple[int, int]) -> None:
        """Add the alpha channel of a picture of this size; None for an opaque picture."""
        if alpha is None and self.pictures is None:
            self._opaque.append(size)
            return
        if self.pictures is None:
            self.pictures = StoredPictures(map(self._whole, self._opaque))
        self.pictures.add(self._whole(size) if alpha is None else np.asarray(fitted(alpha, *self.size, self.fit)))

    def _whole(self, size: tuple[int, int]) -> np.ndarray:
        return np.asarray(fitted(Image.new("L", size, OPAQUE), *self.size, self.fit))


def with_alpha(frame: Any, alpha: np.ndarray) -> np.ndarray:
    """Return a frame with an alpha channel, [h w 4].

    frame: PIL image, or [h w 3] in 8 or 16 bits. alpha: uint8; resized if its size is another.
    """
    pixels = frame if isinstance(frame, np.ndarray) else np.asarray(frame.convert("RGB"))
    if alpha.shape != pixels.shape[:2]:
        alpha = np.asarray(Image.fromarray(alpha).resize(pixels.shape[1::-1], Image.Resampling.LANCZOS))
    return np.dstack([pixels, alpha.astype(np.uint16) * 257 if pixels.dtype == np.uint16 else alpha])


class TransparentMethod:
    """An interpolation method for frames of uint8 [h w 4], made of one for frames without transparency.

    It interpolates the frames on white and their alpha channels. Then it removes the white from the new frames.
    """

    def __init__(self, method: Method):
        self._method = method

    def between(self, a: np.ndarray, b: np.ndarray, times: Sequence[float]) -> list[np.ndarray]:
        white_a, white_b = (base.fitted(frame, 8, alpha=False) for frame in (a, b))
        colours = self._method.between(white_a, white_b, times)
        if np.array_equal(a[..., 3], b[..., 3]):
            alphas = [a[..., 3]] * len(colours)
        else:
            grey_a, grey_b = (frame[..., 3:].repeat(3, 2) for frame in (a, b))
            alphas = [each[..., 0] for each in self._method.between(grey_a, grey_b, times)]
        return [without_white(*frame) for frame in zip(colours, alphas)]


def without_white(shown: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Return the frame, uint8 [h w 4], that has this alpha channel and looks on white as shown, uint8 [h w 3].

    Where it is fully transparent, it has the shown colours.
    """
    share = np.where(alpha == 0, OPAQUE, alpha)[..., None].astype(np.float32) / OPAQUE
    colours = np.rint(OPAQUE - (OPAQUE - shown.astype(np.float32)) / share)
    return np.dstack([colours.clip(0, OPAQUE).astype(np.uint8), alpha])
