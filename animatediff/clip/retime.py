"""Interpolate a finished clip to another rate, for the command line, the WebUI's button and its API."""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np

from animatediff import settings as table
from animatediff.clip.finished import Finished
from animatediff.clip.interpolation import OFF, FindModel, Interpolation, chosen
from animatediff.errors import SettingsError, quoted
from animatediff.media.interpolate import Stream
from animatediff.media.sound import Sound
from animatediff.media.timing import FPS_MAXIMUM, rate

TIMES = 2  # default factor, if neither a factor nor a rate is given
AUTO, YES, NO = LOOPS = ("auto", "yes", "no")
# Names in a request, and the parameters in the table of settings that read their values.
ROWS = {"times": "interp_x", "fps": "fps", "from_fps": "fps", "method": "interp", "model": "interp_model",
        "format": "formats"}


def schema() -> dict[str, Any]:
    """Return the names of a request as properties of a JSON schema."""
    without = {"fps", "times"}  # their defaults in the table are for new clips
    found = {name: table.BY_NAME[row].for_people().json_schema() for name, row in ROWS.items()}
    found = {name: {key: value for key, value in each.items() if key != "default" or name not in without}
             for name, each in found.items()}
    return found | {"loop": {"title": "Loop", "type": ["string", "boolean"], "enum": [*LOOPS, True, False],
                             "description": "Whether the last frame leads to the first; auto: as the clip's settings "
                                            "say.", "default": AUTO}}


@dataclass(frozen=True)
class Request:
    """A request to interpolate a clip."""

    times: int | None = None  # factor of the number of frames
    fps: float | None = None  # frames per second of the result; together with `times`, only its playback speed
    from_fps: float | None = None  # frames per second of the clip, if its file does not contain them
    method: str = AUTO
    model: str = ""
    format: tuple[str, ...] = ()
    loop: str = AUTO  # whether the last frame leads to the first

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Request:
        """Read a request. Raises SettingsError for a value out of range, or if nothing is left to do."""
        read = {name: table.BY_NAME[row].for_people().read(values[name], name) for name, row in ROWS.items()
                if values.get(name) is not None}
        read |= {name: None for name in ("fps", "from_fps") if read.get(name) == 0}  # 0 means not given
        loop = values.get("loop")
        if loop is None or isinstance(loop, bool):
            loop = {None: AUTO, True: YES, False: NO}[loop]
        if loop not in LOOPS:
            raise SettingsError(f"{quoted(loop)} is unknown", where="loop", remedy=f"Use one of {', '.join(LOOPS)}")
        if read.get("method") == OFF or read.get("times") == 1:
            raise SettingsError("leaves nothing to do", where="times" if read.get("times") == 1 else "method",
                                remedy="Use a factor of 2 or more, and one of auto, flow, RIFE, FILM, blend")
        return cls(**read, loop=loop)


@dataclass(frozen=True)
class Retimed:
    """A clip and its interpolation."""

    clip: Finished
    interpolation: Interpolation
    plays: Fraction  # frames per second of the result

    @classmethod
    def of(cls, request: Request, clip: Finished, find: FindModel) -> Retimed:
        """Return the interpolation of a clip.

        Raises SettingsError if the rate is too high, ModelError if a model file is missing.
        """
        given = None if request.fps is None else rate(request.fps)
        fps = given if given is not None and request.times is None else clip.fps * (request.times or TIMES)
        if fps > FPS_MAXIMUM:
            raise SettingsError(f"{float(fps):g} frames per second are more than {FPS_MAXIMUM}", where="times",
                                remedy="Use a smaller number")
        closed = clip.closes if request.loop == AUTO else request.loop == YES
        plan = Interpolation("", clip.fps, fps, closed)
        return cls(clip, chosen(request.method, request.model, plan, find), given or fps)

    @cached_property
    def transparent(self) -> bool:
        """Whether the clip is transparent in places."""
        return self.clip.alpha((1, 1)) is not None

    def stream(self, device: Any) -> Stream:
        """Return a stream that interpolates the clip. device: where a network runs."""
        return self.interpolation.on(device).stream(transparent=self.transparent)

    def frames(self, stream: Stream) -> Iterator[np.ndarray]:
        """Yield the frames of the result, uint8 [h w 3], or [h w 4] for a clip that is transparent in places."""
        return self.clip.frames(stream, transparent=self.transparent)

    def sound(self, found: Sound | None) -> tuple[Sound | None, list[str]]:
        """Return the clip's sound if the result lasts as long as the clip, otherwise None and a note."""
        if found is None or self.plays == self.interpolation.fps:
            return found, []
        return None, ["the sound was left out, since the result does not last as long as the clip"]

    @property
    def count(self) -> int:
        """Number of frames in the result."""
        return self.clip.count(self.interpolation.fps)

    @property
    def text(self) -> str:
        """The clip's text with a note on the interpolation."""
        return self.clip.described(self.interpolation, self.plays)

    def __str__(self) -> str:
        frames = len(self.clip.seconds)
        return (f"{frames} frame{'s' * (frames != 1)} at {float(self.clip.fps):g} fps to "
                f"{float(self.interpolation.fps):g} fps by {self.interpolation.description}"
                f"{', as a loop' if self.interpolation.closed else ''}")
