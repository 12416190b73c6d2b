"""Optical flow between two frames, by OpenCV's DIS (arXiv:1603.03590)."""
from __future__ import annotations

from typing import Any

import numpy as np

from animatediff.packages import extra, needed

EXTRA = extra("interpolate", "opencv-python-headless")
SMALLEST = 256  # pixels of the longer side; smaller frames are enlarged for the search
THINNEST = 32  # pixels of the shorter side; thinner frames are padded, since OpenCV 5 crashes at sides below 16


def library() -> Any:
    """Return the module `cv2`. Raises MediaError, which says how to install it, if it is missing."""
    return needed("cv2", "opencv", "optical flow", EXTRA)


class Search:
    """Search for optical flow. Needs OpenCV."""

    def __init__(self) -> None:
        self.cv2 = library()
        self._dis = self.cv2.DISOpticalFlow_create(self.cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)

    def flow(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Return the flow from `a` to `b`, float32 [h w 2]: x and y offset in pixels. Frames are uint8 [h w 3]."""
        cv2, (height, width) = self.cv2, a.shape[:2]
        factor = max(1.0, SMALLEST / max(height, width))
        size = max(1, round(width * factor)), max(1, round(height * factor))
        gray = [cv2.resize(cv2.cvtColor(x, cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_CUBIC) for x in (a, b)]
        if min(size) < THINNEST:
            border = 0, max(0, THINNEST - size[1]), 0, max(0, THINNEST - size[0]), cv2.BORDER_REPLICATE
            gray = [cv2.copyMakeBorder(plane, *border) for plane in gray]
        found = self._dis.calc(gray[0], gray[1], None)[:size[1], :size[0]]
        found = np.nan_to_num(found).clip(-max(size), max(size))
        return cv2.resize(found, (width, height), interpolation=cv2.INTER_AREA) / np.float32(factor)


def sample(picture: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """Return the picture sampled at each pixel plus `offset` [h w 2].

    The sampling is bilinear; beyond the picture, the border pixels are repeated.
    """
    cv2, (height, width) = library(), offset.shape[:2]
    x = np.arange(width, dtype=np.float32)[None] + offset[..., 0]
    y = np.arange(height, dtype=np.float32)[:, None] + offset[..., 1]
    return cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
