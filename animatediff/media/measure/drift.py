"""Colour drift: how far a clip's colours move away from those of its first frame. In CIE 1976 units (ΔE)."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from animatediff.media.measure import lab
from animatediff.media.measure.course import LAB, evenly

LEVELS = 64  # at which the colours' distributions are compared
DELTA = "\N{GREEK CAPITAL LETTER DELTA}E"


@dataclass(frozen=True)
class Drift:
    """How far a colour has moved: from the first frame to the last, to the frame where it is farthest, and per second
    on average (the slope of a line)."""

    end: float
    largest: float
    per_second: float

    @classmethod
    def of(cls, colours: np.ndarray, times: np.ndarray) -> Drift | None:
        """Of a colour [frames 3] at times in seconds; None for fewer than two."""
        if len(colours) < 2:
            return None
        away = np.linalg.norm(colours - colours[0], axis=1)
        centred = times - times.mean()
        spread = float((centred**2).sum())
        slope = (centred[:, None] * (colours - colours.mean(0))).sum(0) / spread if spread else np.zeros(3)
        return cls(float(away[-1]), float(away.max()), float(np.linalg.norm(slope)))

    @classmethod
    def along(cls, course: np.ndarray, times: np.ndarray) -> Drift | None:
        """Of what the picture shows, by `Course.values`: motion alone is no drift."""
        return cls.of(course[..., LAB].mean(1), times[:len(course)])

    def to_dict(self) -> dict[str, float]:
        return {"end": round(self.end, 3), "largest": round(self.largest, 3), "per_second": round(self.per_second, 3)}

    def __str__(self) -> str:
        return f"{self.end:.2f} {DELTA} at the end, {self.per_second:.2f} per second"


class ColourMeter:
    """Takes a clip's frames one by one. Holds the mean colour of each, and the colours of the first and the last."""

    def __init__(self) -> None:
        self._means: list[np.ndarray] = []
        self._first = self._last = np.zeros((LEVELS, 3))

    def add(self, frame: np.ndarray) -> None:
        """The next frame, uint8 [h w 3]."""
        colours = lab.of_srgb(frame[evenly(*frame.shape[:2])].reshape(-1, 3))
        self._means.append(colours.mean(0, dtype=np.float64))
        self._last = np.quantile(colours, (np.arange(LEVELS) + 0.5) / LEVELS, axis=0)
        if len(self._means) == 1:
            self._first = self._last

    @property
    def means(self) -> np.ndarray:
        """The mean colour of each frame [frames 3]."""
        return np.array(self._means)

    @property
    def distance(self) -> float:
        """Of the colours' distributions in the first and the last frame: the earth mover's distance of each channel,
        which is the mean distance of equal quantiles. It sees contrast, too."""
        return float(np.linalg.norm(np.abs(self._last - self._first).mean(0)))
