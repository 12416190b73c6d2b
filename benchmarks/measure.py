"""Measure a coloured shape in pictures by segmentation, image moments and the track of its centre."""
from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from scipy import ndimage

from training.clips import DIRECTIONS
from training.shapes import COLOURS, SHAPES, Scene, coverage

LEAST_CONTRAST = 40.0  # RGB distance from the background, of 441
LEAST_AREA = 20.0  # pixels of a 64×64 picture
LEAST_TRAVEL = 4.0  # pixels of a 64×64 picture, first to last frame


@dataclass
class Sight:
    """The measured contents of one frame."""

    background: np.ndarray  # [3] in 0..255
    colour: str
    shape: str
    centre: tuple[float, float]  # (x, y) in pixels
    area: float  # in pixels


def look(picture: np.ndarray) -> Sight | None:
    """Return the contents of one picture [h w 3] uint8; None if no shape stands out from the background."""
    picture = picture.astype(np.float64)
    unit = picture.shape[0] / 64
    border = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    background = np.median(border, 0)
    apart = np.linalg.norm(picture - background, axis=-1)
    labels, count = ndimage.label(apart > LEAST_CONTRAST)
    if not count:
        return None
    sizes = ndimage.sum_labels(np.ones_like(apart), labels, range(1, count + 1))
    shape = labels == 1 + int(np.argmax(sizes))
    if sizes.max() < LEAST_AREA * unit**2:
        return None
    core = apart >= np.quantile(apart[shape], 0.4)
    foreground = np.median(picture[shape & core], 0)
    # Share of each pixel that the shape covers: its position between the background's and the foreground's colour.
    line = foreground - background
    cover = np.clip((picture - background) @ line / (line @ line), 0, 1)
    cover[~ndimage.binary_dilation(shape, iterations=2)] = 0
    cover[cover < 0.15] = 0
    centre, features = _moments(cover)
    return Sight(background, _colour(foreground), _shape(features), centre, float(cover.sum()))


def track(frames: list[np.ndarray]) -> tuple[list[Sight | None], str | None]:
    """Return the contents of each frame, and the direction in which the shape moves; None if it stays."""
    sights = [look(f) for f in frames]
    seen = [(i, s.centre) for i, s in enumerate(sights) if s]
    if len(seen) < max(2, len(frames) // 2):
        return sights, None
    times, centres = np.array([i for i, _ in seen]), np.array([c for _, c in seen])
    travel = np.polyfit(times, centres, 1)[0] * (len(frames) - 1) / (frames[0].shape[0] / 64)
    if np.hypot(*travel) < LEAST_TRAVEL:
        return sights, None
    angles = {name: travel @ d / np.hypot(*d) for name, d in DIRECTIONS.items()}
    return sights, max(angles, key=angles.get)


def _colour(rgb: np.ndarray) -> str:
    return min(COLOURS, key=lambda name: float(np.linalg.norm(rgb - COLOURS[name])))


def _moments(cover: np.ndarray) -> tuple[tuple[float, float], np.ndarray]:
    """Return the centre of mass, and features that are invariant to rotation and scale.

    The features are the spread (Hu's first moment) and the strength of 3-, 4- and 5-fold symmetry |Σ z^k| / Σ |z|^k
    around the centre.
    """
    mass = cover.sum()
    y, x = np.mgrid[: cover.shape[0], : cover.shape[1]] + 0.5
    centre = (float((cover * x).sum() / mass), float((cover * y).sum() / mass))
    z = (x - centre[0]) + 1j * (y - centre[1])
    spread = (cover * abs(z) ** 2).sum() / mass**2
    folds = [abs((cover * z**k).sum()) / (cover * abs(z) ** k).sum() for k in (3, 4, 5)]
    return centre, np.array([4 * spread, *folds])


@lru_cache
def _templates() -> tuple[np.ndarray, np.ndarray]:
    """Return features [n 4] of the true shapes at several sizes and rotations, and the index [n] of each shape."""
    turns, radii = torch.linspace(0, 2.0, 9), torch.tensor([6.0, 8.0, 11.0, 15.0])
    grid = torch.cartesian_prod(torch.arange(len(SHAPES)).float(), turns, radii)
    n = len(grid)
    middle, rgb = torch.full((n,), 32.3), torch.zeros(n, 3)
    covers = coverage(Scene(grid[:, 0].long(), rgb, rgb, middle, middle, grid[:, 2], grid[:, 1]), 64).double().numpy()
    return np.stack([_moments(c)[1] for c in covers]), grid[:, 0].long().numpy()


def _shape(features: np.ndarray) -> str:
    known, labels = _templates()
    return SHAPES[labels[np.argmin(((known - features) ** 2).sum(-1))]]
