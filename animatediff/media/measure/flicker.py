"""Flicker: fast changes of brightness and colour, without the influence of motion.

Flicker is the course of brightness and colour (`course`) minus its slow part. The slow part is a local linear
regression with Gaussian weights around each frame (Cleveland 1979).
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from animatediff.media.measure.course import BRIGHTNESS, LAB

SLOW = 0.25  # the Gaussian's standard deviation in seconds; at 0.75 Hz, half of a swing counts as slow
LEAST = 1.5  # least standard deviation in frames


@dataclass(frozen=True)
class Flicker:
    """Amplitudes of the fast changes. A sine of amplitude A has the value A."""

    brightness: float  # of luma, of 255
    colour: float  # of a* and b* together, in CIE 1976 units

    @classmethod
    def of(cls, course: np.ndarray, fps: float) -> Flicker | None:
        """Return the flicker of `Course.values`, or None for fewer than three frames."""
        if len(course) < 3:
            return None
        fast = course - slow_part(course, max(SLOW * fps, LEAST))
        power = (fast**2).mean((0, 1))  # mean over frames and cells, for each channel
        return cls(float(np.sqrt(2 * power[BRIGHTNESS])), float(np.sqrt(2 * power[LAB][1:].sum())))

    def to_dict(self) -> dict[str, float]:
        return {"brightness": round(self.brightness, 3), "colour": round(self.colour, 3)}

    def __str__(self) -> str:
        return f"brightness {self.brightness:.2f} of 255, colour {self.colour:.2f} \N{GREEK CAPITAL LETTER DELTA}E"


def slow_part(course: np.ndarray, width: float) -> np.ndarray:
    """Return a local linear fit along axis 0, weighted by a Gaussian of this standard deviation, in frames."""
    count = len(course)
    reach = min(int(np.ceil(4 * width)), count - 1)
    moments, values = np.zeros((3, count)), np.zeros((2, *course.shape))
    for offset in range(-reach, reach + 1):
        weight = np.exp(-0.5 * (offset / width) ** 2)
        here = slice(max(0, -offset), count - max(0, offset))
        there = slice(max(0, offset), count - max(0, -offset))
        moments[:, here] += weight * np.array([1, offset, offset**2])[:, None]
        values[0, here] += weight * course[there]
        values[1, here] += weight * offset * course[there]
    zeroth, first, second = (each.reshape(-1, *(1,) * (course.ndim - 1)) for each in moments)
    return (second * values[0] - first * values[1]) / (zeroth * second - first**2)
