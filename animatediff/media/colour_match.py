"""Colour match: frames keep the colours of the clip's first frame, or get those of the pictures they are made from.

first frame: each frame is compared with the next one warped to it along the optical flow, and what all of the picture
has in common of the change is undone: an offset of L*, a* and b*, and a factor of the contrast. So what moves, comes
and goes changes nothing. source: each frame gets the mean and the deviation of L*, a* and b* of its picture (Reinhard
et al. 2001).
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from animatediff.media.measure import lab
from animatediff.media.measure.course import evenly
from animatediff.media.measure.temporal import TemporalMeter

CELLS = 16  # in a row and in a column, of which the means are compared
FEWEST = 0.25  # share of a cell's pixels that have to be seen in both frames
LEFT_OUT = 0.25  # share of the cells that change most upwards, and of those most downwards, which do not count
UNSEEN = 0.5, 0.02  # offset and factor up to which a change is left, so that a clip without drift stays bit for bit
STEP = 1.03  # factor by which the contrast may change from a frame to the next
MOST = 2.0  # factor by which the contrast may change at all
FLAT = 2.0  # deviation below which there is no contrast to compare

Reference = Callable[[int], np.ndarray]  # the picture of a frame, uint8 [h w 3]


class ColourMatch(Protocol):
    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """The clip's next frame, uint8 [h w 3], with its colours changed."""
        ...


class ToFirst:
    """Needs OpenCV. Holds two frames."""

    def __init__(self) -> None:
        self._meter = TemporalMeter(self._compare)
        self._factor, self._offset, self._centre = 1.0, np.zeros(3), np.zeros(3)
        self._begun = False

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        if not self._begun:
            self._begun, self._centre = True, _colours(frame).reshape(-1, 3).mean(0, dtype=np.float64)
        self._meter.add(frame)
        return _changed(frame, np.full(3, self._factor), self._offset, self._centre)

    def _compare(self, frame: np.ndarray, warped: np.ndarray, seen: np.ndarray) -> None:
        """Add what leads from the next frame's colours to this one's, x -> (x - centre)·factor + centre + offset."""
        some = evenly(*seen.shape)
        cells = _cells(seen[some])
        after = lab.of_srgb(np.rint(warped[some]).clip(0, 255).astype(np.uint8))
        here, there = (_means(colours, cells) for colours in (lab.of_srgb(frame[some]), after))
        if len(here) < CELLS:  # a cut, or a picture of which nothing is found again
            return
        ratio = _contrast(here, there)
        self._offset = self._offset + self._factor * _middle(here - ((there - self._centre) * ratio + self._centre))
        self._factor = min(max(self._factor * ratio, 1 / MOST), MOST)


class ToSource:
    """reference: the picture of each frame, in any size."""

    def __init__(self, reference: Reference):
        self._reference, self._count = reference, 0

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        wanted = _colours(self._reference(self._count)).reshape(-1, 3).astype(np.float64)
        self._count += 1
        own = _colours(frame).reshape(-1, 3).astype(np.float64)
        mean, deviation = own.mean(0), own.std(0)
        factor = np.where(deviation > FLAT, wanted.std(0) / np.maximum(deviation, FLAT), 1).clip(1 / MOST, MOST)
        return _changed(frame, factor, wanted.mean(0) - mean, mean)


def _changed(frame: np.ndarray, factor: np.ndarray, offset: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Less what is not seen of it."""
    offset = _beyond(offset, UNSEEN[0])
    factor = np.exp(_beyond(np.log(factor), UNSEEN[1]))
    if not offset.any() and (factor == 1).all():
        return frame
    colours = lab.of_srgb(frame)
    return lab.to_srgb((colours - centre.astype(np.float32)) * factor.astype(np.float32)
                       + (centre + offset).astype(np.float32))


def _beyond(values: np.ndarray, least: float) -> np.ndarray:
    """The part of each value beyond `least`, with its sign."""
    return np.sign(values) * np.maximum(np.abs(values) - least, 0)


def _colours(frame: np.ndarray) -> np.ndarray:
    return lab.of_srgb(frame[evenly(*frame.shape[:2])])


def _cells(seen: np.ndarray) -> np.ndarray:
    """The number of each pixel's cell, and CELLS² for pixels that do not count."""
    height, width = seen.shape
    cell = (np.arange(height) * CELLS // height)[:, None] * CELLS + np.arange(width) * CELLS // width
    whole = np.bincount(cell.ravel(), minlength=CELLS**2)
    enough = np.bincount(cell[seen], minlength=CELLS**2) >= FEWEST * np.maximum(whole, 1)
    return np.where(seen & enough[cell], cell, CELLS**2)


def _means(colours: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Mean colours [n 3] of the cells that have pixels."""
    count = np.bincount(cells.ravel(), minlength=CELLS**2 + 1)[:-1]
    sums = np.stack([np.bincount(cells.ravel(), plane.ravel(), CELLS**2 + 1)[:-1]
                     for plane in np.moveaxis(colours, -1, 0)], -1)
    return sums[count > 0] / count[count > 0, None]


def _contrast(here: np.ndarray, there: np.ndarray) -> float:
    """The factor from the colours' deviations there to those here, in the half of the cells that have changed most
    alike."""
    change = here - there
    odd = np.abs(change - _middle(change)).sum(1)
    alike = odd <= np.median(odd)
    own, other = (float(each[alike].var(0).sum()) for each in (here, there))
    if other < FLAT**2:
        return 1.0
    return min(max((own / other) ** 0.5, 1 / STEP), STEP)


def _middle(values: np.ndarray) -> np.ndarray:
    """The mean of each column without its outermost values."""
    out = int(len(values) * LEFT_OUT)
    return np.sort(values, 0)[out:len(values) - out].mean(0)
