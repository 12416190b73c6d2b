"""Convert sRGB pixels (IEC 61966-2-1, D65) to CIE 1976 L*a*b* and back. One unit is about a just visible difference."""
from __future__ import annotations

import numpy as np

# Linear sRGB to XYZ, divided by D65's white point.
_TO_XYZ = np.array([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]])
_WHITE = np.array([0.95047, 1.0, 1.08883])
_MATRIX = (_TO_XYZ / _WHITE[:, None]).T.astype(np.float32)
_BACK = np.linalg.inv(_MATRIX.astype(np.float64)).astype(np.float32)
_BEND, _SLOPE, _OFFSET = (6 / 29) ** 3, 3 * (6 / 29) ** 2, 4 / 29
_codes = np.arange(256) / 255
_LINEAR = np.where(_codes <= 0.04045, _codes / 12.92, ((_codes + 0.055) / 1.055) ** 2.4).astype(np.float32)


def of_srgb(pixels: np.ndarray) -> np.ndarray:
    """Return L* (0…100), a* and b* of pixels uint8 [... 3], as float32 [... 3]."""
    xyz = _LINEAR[pixels] @ _MATRIX
    f = np.where(xyz > _BEND, np.cbrt(xyz), xyz / np.float32(_SLOPE) + np.float32(_OFFSET))
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack((116 * y - 16, 500 * (x - y), 200 * (y - z)), -1)


def to_srgb(colours: np.ndarray) -> np.ndarray:
    """Return pixels uint8 [... 3] of L*, a* and b*, float32 [... 3]. Colours outside sRGB are clipped."""
    y = (colours[..., 0] + 16) / 116
    f = np.stack((y + colours[..., 1] / 500, y, y - colours[..., 2] / 200), -1)
    xyz = np.where(f > 6 / 29, f**3, np.float32(_SLOPE) * (f - np.float32(_OFFSET))).astype(np.float32)
    linear = (xyz @ _BACK).clip(0, 1)
    coded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.rint(coded * 255).astype(np.uint8)
