"""Colour match: adjust frames to the colours of the clip's first frame, or of their source pictures.

first frame: each frame is compared with the next frame, warped to it along the optical flow. The change that the whole
picture has in common is undone: an offset of L*, a* and b*, and a factor of the contrast. Objects that move, appear
or disappear have no influence.

source: each frame gets the mean and standard deviation of L*, a* and b* of its source picture (Reinhard et al. 2001).
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from animatediff.media.measure import lab
from animatediff.media.measure.course import evenly
from animatediff.media.measure.temporal import TemporalMeter

CELLS = 16  # cells per row and column; their mean colours are compared
FEWEST = 0.25  # least share of a cell's pixels that must be visible in both frames
LEFT_OUT = 0.25  # share of cells to ignore at each end: those that change most upwards, and most downwards
UNSEEN = 0.5, 0.02  # offset and log factor below which nothing changes, so that a clip without drift stays identical
STEP = 1.03  # largest factor of the contrast between two frames
MOST = 2.0  # largest factor of the contrast in total
FLAT = 2.0  # standard deviation below which contrast is not compared

Reference = Callable[[int], np.ndarray]  # returns the source picture of a frame, uint8 [h w 3]


class ColourMatch(Protocol):
    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """Return the clip's next frame, uint8 [h w 3], with matched colours."""
        ...


class ToFirst:
    """Matches frames to the clip's first frame. Needs OpenCV. Holds two frames."""

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
        """Update offset and factor that map the next frame's colours to this frame's.

        The map is x -> (x - centre)·factor + centre + offset.
        """
        some = evenly(*seen.shape)
        cells = _cells(seen[some])
        after = lab.of_srgb(np.rint(warped[some]).clip(0, 255).astype(np.uint8))
        here, there = (_means(colours, cells) for colours in (lab.of_srgb(frame[some]), after))
        if len(here) < CELLS:  # a cut, or a picture with no matching parts
            return
        ratio = _contrast(here, there)
        self._offset = self._offset + self._factor * _middle(here - ((there - self._centre) * ratio + self._centre))
        self._factor = min(max(self._factor * ratio, 1 / MOST), MOST)


class ToSource:
    """Matches frames to their source pictures. reference: returns the picture of a frame, in any size."""

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
    """Return the frame with changed colours. Offset and factor are reduced by UNSEEN."""
    offset = _beyond(offset, UNSEEN[0])
    factor = np.exp(_beyond(np.log(factor), UNSEEN[1]))
    if not offset.any() and (factor == 1).all():
        return frame
    colours = lab.of_srgb(frame)
    return lab.to_srgb((colours - centre.astype(np.float32)) * factor.astype(np.float32)
                       + (centre + offset).astype(np.float32))


def _beyond(values: np.ndarray, least: float) -> np.ndarray:
    """Return the part of each value whose magnitude is above `least`, with its sign."""
    return np.sign(values) * np.maximum(np.abs(values) - least, 0)


def _colours(frame: np.ndarray) -> np.ndarray:
    return lab.of_srgb(frame[evenly(*frame.shape[:2])])


def _cells(seen: np.ndarray) -> np.ndarray:
    """Return the number of each pixel's cell, or CELLS² for pixels that are ignored."""
    height, width = seen.shape
    cell = (np.arange(height) * CELLS // height)[:, None] * CELLS + np.arange(width) * CELLS // width
    whole = np.bincount(cell.ravel(), minlength=CELLS**2)
    enough = np.bincount(cell[seen], minlength=CELLS**2) >= FEWEST * np.maximum(whole, 1)
    return np.where(seen & enough[cell], cell, CELLS**2)


def _means(colours: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Return the mean colours [n 3] of the cells that have pixels."""
    count = np.bincount(cells.ravel(), minlength=CELLS**2 + 1)[:-1]
    sums = np.stack([np.bincount(cells.ravel(), plane.ravel(), CELLS**2 + 1)[:-1]
                     for plane in np.moveaxis(colours, -1, 0)], -1)
    return sums[count > 0] / count[count > 0, None]


def _contrast(here: np.ndarray, there: np.ndarray) -> float:
    """Return the factor from the contrast `there` to the contrast `here`.

    Only the half of the cells is used whose change is closest to the common change.
    """
    change = here - there
    odd = np.abs(change - _middle(change)).sum(1)
    alike = odd <= np.median(odd)
    own, other = (float(each[alike].var(0).sum()) for each in (here, there))
    if other < FLAT**2:
        return 1.0
    return min(max((own / other) ** 0.5, 1 / STEP), STEP)


def _middle(values: np.ndarray) -> np.ndarray:
    """Return the trimmed mean of each column: without the share LEFT_OUT of values at each end."""
    out = int(len(values) * LEFT_OUT)
    return np.sort(values, 0)[out:len(values) - out].mean(0)
