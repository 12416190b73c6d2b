"""Frames with more than the 8 bits that the host's pictures have, from its decoded latents."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from animatediff.clip import job
from animatediff.media.stored import StoredPictures

STEP = 257  # of 16 bits in one step of 8 bits
CHANGED = "the frames were changed after they were decoded, so they have 8 bits per channel"


class Depth:
    """What the host cuts off when it makes pictures of 8 bits from decoded latents, frame by frame."""

    def __init__(self) -> None:
        self._rests = StoredPictures()  # uint8 [f h w 3], in STEPs of a step of 8 bits
        self._found = False

    def add(self, decoded: Any, picture: Image.Image) -> None:
        """Add the next frame.

        decoded: its tensor [3 h w], 0 to 1, or None.
        picture: the finished frame. Pixels that were changed after decoding keep their 8 bits.
        """
        pixels = np.asarray(picture.convert("RGB"))
        rest = np.zeros_like(pixels)
        if decoded is not None and decoded.shape[-2:] == pixels.shape[:2]:
            whole = np.moveaxis(decoded.detach().float().cpu().numpy(), 0, 2) * 255
            own = whole.astype(np.uint8)
            cut_off = np.rint((whole - own) * STEP).clip(0, 255).astype(np.uint8)
            rest = np.where((own == pixels).all(-1, keepdims=True), cut_off, rest)
        self._found = self._found or bool(rest.any())
        self._rests.add(rest)

    def of(self, picture: Image.Image, number: int) -> np.ndarray:
        """Return a frame as uint16 [h w 3]. number: its index, in the order in which the frames were added."""
        deep = np.asarray(picture.convert("RGB")).astype(np.uint32) * STEP + self._rests[number]
        return deep.clip(0, 65535).astype(np.uint16)

    @property
    def notes(self) -> list[str]:
        """A note if no frame has more than 8 bits."""
        return [] if self._found else [CHANGED]


@dataclass(frozen=True)
class DeepClip(job.Clip):
    """A clip whose frames are written with more than 8 bits. deep: `Depth.of`."""

    deep: Callable[[Image.Image, int], np.ndarray] | None = None

    def shown(self, frame: Any, number: int) -> Any:
        if self.deep is not None and frame.mode == "RGB":
            frame = self.deep(frame, number)
        return super().shown(frame, number)
