"""All measures of a clip's quality over time, computed from its frames one by one."""
from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from PIL import Image

from animatediff.errors import MediaError
from animatediff.media.loop import LoopMeter, LoopScore
from animatediff.media.measure.course import Course
from animatediff.media.measure.drift import DELTA, ColourMeter, Drift
from animatediff.media.measure.flicker import Flicker
from animatediff.media.measure.temporal import TemporalError, TemporalMeter

LONGEST = 512  # pixels of the longer side at which the optical flow is computed


@dataclass(frozen=True)
class Score:
    """The measures of a clip. A measure is None if there are too few frames, or without OpenCV (see `notes`)."""

    frames: int
    seconds: float = 0
    flicker: Flicker | None = None
    temporal_error: TemporalError | None = None
    drift: Drift | None = None  # of the objects in the picture, without the influence of motion
    colours: Drift | None = None  # of the frames' mean colour, which motion changes as well
    distribution: float | None = None  # distance of the colour distributions of the first and the last frame
    loop: LoopScore | None = None
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        colours = self.colours and self.colours.to_dict() | {"distribution": round(self.distribution or 0, 3)}
        figures = {"flicker": self.flicker, "temporal_error": self.temporal_error, "drift": self.drift}
        return {"frames": self.frames, "seconds": round(self.seconds, 3),
                **{name: figure and figure.to_dict() for name, figure in figures.items()},
                "colours": colours, "loop": self.loop and self.loop.to_dict()}

    def lines(self) -> list[str]:
        """Return the measures for people, one line each."""
        distribution = f"{self.distribution:.2f} {DELTA} in distribution" if self.distribution is not None else ""
        named = {"Flicker": self.flicker, "Temporal error": self.temporal_error, "Colour drift": self.drift,
                 "Mean colour": self.colours and f"{self.colours}, {distribution}", "Loop score": self.loop}
        return [f"{name}: {figure}" for name, figure in named.items() if figure is not None]

    def __str__(self) -> str:
        """Names and numbers in one line, as stored in files."""
        parts = []
        if self.flicker:
            parts += [f"flicker {self.flicker.brightness:.2f}", f"colour flicker {self.flicker.colour:.2f}"]
        if self.temporal_error:
            parts.append(f"temporal error {self.temporal_error.difference:.2f}")
        if drift := self.drift or self.colours:
            parts += [f"drift {drift.end:.2f}", f"drift per second {drift.per_second:.2f}"]
        return ", ".join(parts)


class ScoreMeter:
    """Measures a clip's frames one by one, in playback order. Holds two of them."""

    def __init__(self) -> None:
        self._course, self._colours, self._loop = Course(), ColourMeter(), LoopMeter()
        self._notes: list[str] = []
        self._times: list[float] = []
        self._end = Fraction(0)
        try:
            self._temporal = TemporalMeter(self._course.add)
        except MediaError as error:
            self._temporal = None
            self._notes.append(f"no flicker and no temporal error: {error}")

    def add(self, frame: np.ndarray, seconds: Fraction) -> None:
        """Add the next frame, uint8 [h w 3]. seconds: its duration."""
        self._colours.add(frame)
        self._loop.add(frame)
        if self._temporal:
            self._temporal.add(_small(frame))
        self._times.append(float(self._end))
        self._end += seconds

    @property
    def score(self) -> Score:
        """Score of the frames so far."""
        count, seconds, times = len(self._times), float(self._end), np.array(self._times)
        notes = [*self._notes, *(["there is only one frame, and so no change to measure"] if count == 1 else [])]
        course = self._course.values
        return Score(count, seconds, Flicker.of(course, count / seconds if seconds else 0),
                     self._temporal.error if self._temporal else None, Drift.along(course, times),
                     Drift.of(self._colours.means, times), self._colours.distance if count > 1 else None,
                     self._loop.score, notes)


def _small(frame: np.ndarray) -> np.ndarray:
    height, width = frame.shape[:2]
    factor = LONGEST / max(height, width)
    if factor >= 1:
        return frame
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BOX))
