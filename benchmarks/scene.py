"""A test clip for encoders that resembles a generated animation. It is drawn frame by frame and deterministic."""
from __future__ import annotations

import numpy as np


class Scene:
    """A slow pan over a textured landscape with two moving, shaded balls.

    Octaves of smooth noise give detail down to two pixels.
    """

    def __init__(self, size: int, seed: int = 0):
        self.size = size
        random = np.random.default_rng(seed)
        self._ground = self._landscape(random, 2 * size)
        self._y, self._x = np.mgrid[:size, :size].astype(np.float32)

    @staticmethod
    def _landscape(random: np.random.Generator, side: int) -> np.ndarray:
        """Return float [side side 3] in 0..255: large areas of a few hues, with texture slightly rougher than 1/f."""
        layers = []
        for _ in range(3):
            total, weight, cell = np.zeros((side, side), np.float32), 1.0, side // 2
            while cell >= 2:
                points = random.standard_normal((side // cell + 2, side // cell + 2)).astype(np.float32)
                total += weight * _smooth(points, side, cell)
                weight, cell = 0.65 * weight, cell // 2
            layers.append(total)
        height, hue, light = layers
        base = np.stack([120 + 50 * hue, 130 + 40 * height - 20 * hue, 150 - 45 * hue], -1) + 18 * light[..., None]
        return np.clip(base, 0, 255)

    def frame(self, index: int) -> np.ndarray:
        """Return frame `index`, uint8 [size size 3]. Frames repeat after 2 · size frames at the earliest."""
        size = self.size
        at = abs((index * size // 256 + size) % (2 * size) - size)  # back and forth, one pixel per frame at size 256
        picture = self._ground[at // 2 : at // 2 + size, at : at + size].copy()
        for phase, radius, colour in ((0.0, 0.18, (220, 60, 50)), (2.1, 0.11, (250, 210, 70))):
            t = 2 * np.pi * index / 48 + phase
            x, y = self._x - size * (0.5 + 0.3 * np.cos(t)), self._y - size * (0.5 + 0.25 * np.sin(2 * t))
            r = radius * size
            edge = np.clip(r - np.hypot(x, y) + 0.5, 0, 1)[..., None]  # one pixel wide
            shade = np.clip(0.9 - 0.45 * (x + y) / r, 0.3, 1.15)[..., None]
            picture += edge * (np.array(colour, np.float32) * shade - picture)
        return np.clip(picture, 0, 255).astype(np.uint8)


def _smooth(points: np.ndarray, side: int, cell: int) -> np.ndarray:
    """Return a smooth interpolation [side side] of values at grid points that are `cell` pixels apart."""
    place = np.arange(side) / cell
    whole = place.astype(int)
    part = (place - whole).astype(np.float32)
    part = part * part * (3 - 2 * part)
    rows = points[whole] * (1 - part)[:, None] + points[whole + 1] * part[:, None]
    return rows[:, whole] * (1 - part) + rows[:, whole + 1] * part
