"""Colour drift: how far a clip's colours move away from those of its first frame, in CIE 1976 units (ΔE)."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from animatediff.media.measure import lab
from animatediff.media.measure.course import LAB, evenly

LEVELS = 64  # number of quantiles at which colour distributions are compared
DELTA = "\N{GREEK CAPITAL LETTER DELTA}E"


@dataclass(frozen=True)
class Drift:
    """The distance of a colour from its value in the first frame."""

    end: float  # in the last frame
    largest: float  # maximum over all frames
    per_second: float  # average speed, the slope of a fitted line

    @classmethod
    def of(cls, colours: np.ndarray, times: np.ndarray) -> Drift | None:
        """Return the drift of a colour [frames 3] at times in seconds, or None for fewer than two frames."""
        if len(colours) < 2:
            return None
        away = np.linalg.norm(colours - colours[0], axis=1)
        centred = times - times.mean()
        spread = float((centred**2).sum())
        slope = (centred[:, None] * (colours - colours.mean(0))).sum(0) / spread if spread else np.zeros(3)
        return cls(float(away[-1]), float(away.max()), float(np.linalg.norm(slope)))

    @classmethod
    def along(cls, course: np.ndarray, times: np.ndarray) -> Drift | None:
        """Return the drift of `Course.values`, in which motion alone is no drift."""
        return cls.of(course[..., LAB].mean(1), times[:len(course)])

    def to_dict(self) -> dict[str, float]:
        return {"end": round(self.end, 3), "largest": round(self.largest, 3), "per_second": round(self.per_second, 3)}

    def __str__(self) -> str:
        return f"{self.end:.2f} {DELTA} at the end, {self.per_second:.2f} per second"


class ColourMeter:
    """Measures a clip's frames one by one. Holds the mean colour of each, and quantiles of the first and the last."""

    def __init__(self) -> None:
        self._means: list[np.ndarray] = []
        self._first = self._last = np.zeros((LEVELS, 3))

    def add(self, frame: np.ndarray) -> None:
        """Add the next frame, uint8 [h w 3]."""
        colours = lab.of_srgb(frame[evenly(*frame.shape[:2])].reshape(-1, 3))
        self._means.append(colours.mean(0, dtype=np.float64))
        self._last = np.quantile(colours, (np.arange(LEVELS) + 0.5) / LEVELS, axis=0)
        if len(self._means) == 1:
            self._first = self._last

    @property
    def means(self) -> np.ndarray:
        """Mean colour of each frame [frames 3]."""
        return np.array(self._means)

    @property
    def distance(self) -> float:
        """Distance of the colour distributions of the first and the last frame.

        It is the norm of the earth mover's distances of the channels, which are the mean distances of equal quantiles.
        Changes of contrast count as well.
        """
        return float(np.linalg.norm(np.abs(self._last - self._first).mean(0)))
