"""The source of a clip that starts from pictures: which of its frames are taken, and where a mask lets them change."""
from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from animatediff import windows
from animatediff.errors import MediaError, SettingsError
from animatediff.media import masks, read
from animatediff.media.selection import TOLERANCE, Chosen, Selection, Timeline
from animatediff.media.sound import Sound, find
from animatediff.media.source import Source
from animatediff.media.stored import StoredPictures
from animatediff.media.timing import FPS_MAXIMUM, FPS_MINIMUM, duration
from animatediff.media.write.registry import WRITERS
from animatediff.settings import Settings

NAMES = ("video_path", "video_source", "init")  # the parameters that name a source, in order of priority
REPEATING = 1.01  # times the source's rate, from which on a target rate repeats frames
SAME_PACE = 0.01
WHOLLY = 32  # a mask's value from which on a frame has none of the source's own pixels


@dataclass(frozen=True)
class SourceFrames:
    """The frames that a clip takes of its source. name: of the parameter that names it. path: as it was given. more:
    whether the selection has frames behind the clip's last one."""

    name: str
    path: str
    source: Source
    chosen: Chosen
    more: bool = False

    @classmethod
    def of(cls, settings: Settings) -> SourceFrames | None:
        """None where the settings name no source. Nothing is decoded, unless that is needed to count the frames."""
        name = next((name for name in NAMES if getattr(settings, name)), None)
        if name is None:
            return None
        if settings.video and settings.init:
            raise SettingsError("a source video is given as well, and both are what the clip starts from", where="init",
                                remedy="Give one of the two.")
        path = getattr(settings, name)
        source = Source.open(path)
        if source.is_picture:
            return cls(name, path, source, Selection().of(source.timeline))
        chosen = source.chosen(selection(settings), limited=bool(settings.frames))
        taken = chosen.cut(settings.frames)
        return cls(name, path, source, taken, len(taken.indices) < len(chosen.indices))

    @property
    def count(self) -> int:
        """Of frames; 1 is a start picture, from which all of the clip's frames start."""
        return len(self.chosen.indices)

    @property
    def fps(self) -> float | None:
        """Frames per second at which the clip keeps the source's pace; None where it has none."""
        if self.chosen.fps is None or self.count == 1:
            return None
        return float(min(max(self.chosen.fps, FPS_MINIMUM), FPS_MAXIMUM))

    def pictures(self, size: tuple[int, int], fit: str) -> Iterator[np.ndarray]:
        """uint8 [h w 3], one by one, in this width and height."""
        for image in self.source.pictures(self.chosen.indices):
            yield np.asarray(read.fitted(image, *size, fit))

    def sound(self, settings: Settings) -> Sound | None:
        """The source's sound beside the clip. None where it has none, and where the clip does not play as the source
        does."""
        plays = windows.playback(settings.frames, settings.context_length, settings.closed_loop)
        if plays != list(range(settings.frames)):
            return None
        found = self._sound[0] if self._keeps_pace(settings) else None
        return found and found.part(self.chosen.begin)

    @cached_property
    def _sound(self) -> tuple[Sound | None, str]:
        """And what is wrong with it; a video whose sound is damaged is a source nevertheless."""
        try:
            return find(self.source.path) if self.source.is_video else None, ""
        except MediaError as error:
            return None, str(error)

    def _keeps_pace(self, settings: Settings) -> bool:
        return bool(self.fps) and abs(settings.fps / self.fps - 1) <= SAME_PACE

    def notices(self, settings: Settings) -> list[str]:
        """What may surprise of the selection. settings: of the run, with frames and rate."""
        timeline, said = self.chosen.timeline, list(self.source.notices)
        if with_sound(settings) and not settings.audio and self._sound[1]:
            said.append(self._sound[1])
        if self.more:
            said.append(f"{self.path} has more pictures than the clip has frames; the first {settings.frames} are used")
        if not self.fps or timeline.average is None:
            return said
        if not timeline.steady and not settings.video_fps:
            said.append(f"the frames of {self.path} last differently; the clip has all of them at one rate, their "
                        "average. video_fps takes frames at equal distances in time")
        if settings.video_fps > REPEATING * timeline.average:
            said.append(f"{self.path} has {float(timeline.average):.4g} frames per second, fewer than video_fps; "
                        "frames are repeated")
        if not self._keeps_pace(settings):
            said.append(f"the clip plays at {settings.fps:g} frames per second, {settings.fps / self.fps:.3g} times as "
                        f"fast as its source; {self.fps:.5g} keeps the source's pace")
            if self._sound[0] and with_sound(settings) and not settings.audio:
                said.append("the source's sound is left out, since the clip does not play at the source's pace")
        return said


def with_sound(settings: Settings) -> bool:
    """Whether one of the clip's files can have sound."""
    return any(WRITERS[name].has_sound for name in settings.formats if name in WRITERS)


def selection(settings: Settings) -> Selection:
    """What the settings say of a source video."""
    return Selection(settings.video_start, settings.video_end, settings.video_fps, settings.video_every,
                     settings.video_max_frames)


@dataclass(frozen=True)
class ChangeMask:
    """Where a source may change. pictures: uint8 [n h w], 255 for everything, 0 for nothing. at: which of them each
    frame has."""

    pictures: StoredPictures
    at: tuple[int, ...]

    @classmethod
    def read(cls, path: str, frames: SourceFrames, count: int, size: tuple[int, int], fit: str) -> ChangeMask:
        """The mask of a clip of `count` frames. MediaError where it does not belong to the source."""
        mask = Source.open(path)
        numbers = _beside(mask.timeline, frames.chosen, count, path)
        distinct = sorted(set(numbers))
        found = StoredPictures(np.asarray(read.fitted(image, *size, fit))
                               for image in mask.pictures(distinct, masks.gray))
        return cls(found, tuple(map(distinct.index, numbers)))

    def __getitem__(self, frame: int) -> np.ndarray:
        return self.pictures[self.at[frame]]

    def composed(self, picture: np.ndarray, source: np.ndarray, frame: int) -> np.ndarray:
        """A finished frame, uint8 or uint16 [h w 3], with the source's own pixels, uint8, where the mask is black.
        Between black and an eighth of white, the two are mixed."""
        if picture.dtype == np.uint16:
            source = source.astype(np.uint16) * 257
        share = np.minimum(self[frame].astype(np.float32) / WHOLLY, 1)[..., None]
        return (picture * share + source * (1 - share)).round().astype(picture.dtype)


def _beside(mask: Timeline, chosen: Chosen, count: int, path: str) -> Sequence[int]:
    """The mask's picture for each frame of the clip: one for all, as many as the source or the clip has, or those that
    are shown at the same times."""
    pictures, source = len(mask.times), chosen.timeline
    if pictures == 1:
        return [0] * count
    if pictures == len(source.times) and len(chosen.indices) == count:
        return chosen.indices
    if pictures == count:
        return range(count)
    if not (mask.seconds and source.seconds and len(chosen.indices) == count):
        raise MediaError(f"has {pictures} pictures, and the clip has {count} frames", where=path,
                         remedy="Give one picture, or one for each frame of the source or of the clip")
    ends = [*source.times[1:], source.seconds]
    middles = [(source.times[i] + ends[i]) / 2 for i in chosen.indices]
    if middles[-1] > mask.seconds + TOLERANCE:
        raise MediaError(f"ends after {duration(float(mask.seconds))}, and the source's frames go on until "
                         f"{duration(float(ends[chosen.indices[-1]]))}", where=path,
                         remedy="Give a mask as long as the source, or set video_end")
    return [max(0, bisect_right(mask.times, middle) - 1) for middle in middles]
