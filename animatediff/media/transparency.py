"""The alpha channels of pictures that are read one by one, and frames that get them."""
from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from animatediff.media.read import alpha_of, fitted, flat
from animatediff.media.stored import StoredPictures

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
