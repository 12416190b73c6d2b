"""The frames of a source video that a clip starts from, and the mask that limits where the clip changes."""
from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from animatediff import windows
from animatediff.errors import MediaError, SettingsError
from animatediff.media import masks, read
from animatediff.media.selection import TOLERANCE, Chosen, Selection, Timeline
from animatediff.media.sound import Sound, find
from animatediff.media.source import Source
from animatediff.media.stored import StoredPictures
from animatediff.media.timing import FPS_MAXIMUM, FPS_MINIMUM, duration
from animatediff.media.transparency import AlphaChannels, parted
from animatediff.media.write.registry import WRITERS
from animatediff.notices import of_source
from animatediff.settings import Settings

NAMES = ("video_path", "video_source", "init")  # the parameters that name a source, in order of priority
REPEATING = 1.01  # ratio of target rate to source rate above which frames are repeated
SAME_PACE = 0.01  # largest relative difference of the clip's rate and the source's rate at the same pace
SAME_SHAPE = 0.02  # largest relative difference of the aspect ratios of a mask and its source
NOTHING_KEPT = 32  # least value of a mask at which no pixels of the source are mixed in


@dataclass(frozen=True)
class SourceFrames:
    """The frames of a source that a clip starts from."""

    name: str  # of the parameter that names the source
    path: str  # value of this parameter
    source: Source
    chosen: Chosen
    more: bool = False  # whether the selection has more frames than the clip

    @classmethod
    def of(cls, settings: Settings, open: Callable[[str], Source] = Source.open) -> SourceFrames | None:
        """Open the settings' source and choose its frames. Returns None without a source.

        Frames are decoded only if their number is not known otherwise.
        """
        name = next((name for name in NAMES if getattr(settings, name)), None)
        if name is None:
            return None
        if settings.video and settings.init:
            raise SettingsError("a source video is given as well, and both are what the clip starts from", where="init",
                                remedy="Give one of the two.")
        path = getattr(settings, name)
        source = open(path)
        if source.is_picture:
            return cls(name, path, source, Selection().of(source.timeline))
        chosen = source.chosen(selection(settings), limited=bool(settings.frames))
        taken = chosen.cut(settings.frames)
        return cls(name, path, source, taken, len(taken.indices) < len(chosen.indices))

    @property
    def count(self) -> int:
        """Number of frames. If it is 1, all frames of the clip start from this picture."""
        return len(self.chosen.indices)

    @property
    def is_video(self) -> bool:
        """Whether the source has more than one picture."""
        return not self.source.is_picture

    @property
    def fps(self) -> float | None:
        """Frames per second at which the clip plays as fast as its source; None if the source has no times."""
        if self.chosen.fps is None or self.count == 1:
            return None
        return float(min(max(self.chosen.fps, FPS_MINIMUM), FPS_MAXIMUM))

    def pictures(self, channels: AlphaChannels) -> Iterator[np.ndarray]:
        """Yield the frames, uint8 [h w 3], sized as `channels` says. It collects their alpha channels."""
        for image, alpha in self.source.pictures(self.chosen.indices, parted):
            channels.add(alpha, image.size)
            yield np.asarray(read.fitted(image, *channels.size, channels.fit))

    def sound(self, settings: Settings) -> Sound | None:
        """Return the source's sound for the clip.

        Returns None without sound, and if the clip does not play forwards at the source's pace.
        """
        found = None if self._sound_conflict(settings) else self._sound[0]
        return found and found.part(self.chosen.begin)

    def _sound_conflict(self, settings: Settings) -> str:
        """Return a notice on why the clip cannot have the source's sound, "" if it can."""
        if self.count == 1:
            return "the source's sound is left out, since the clip starts from a single frame"
        if windows.to_and_fro(settings.frames, settings.context_length, settings.closed_loop):
            return "the source's sound is left out, since the clip plays forwards and backwards"
        if not self._keeps_pace(settings):
            return "the source's sound is left out, since the clip does not play at the source's pace"
        return ""

    @cached_property
    def size(self) -> tuple[int, int]:
        """Width and height of the first frame in the source."""
        return next(self.source.pictures(self.chosen.indices[:1])).size

    @cached_property
    def _sound(self) -> tuple[Sound | None, str]:
        """The source's sound, and a message if it cannot be read. The video can be used without it."""
        try:
            return find(self.source.path) if self.source.is_video else None, ""
        except MediaError as error:
            return None, str(error)

    def _keeps_pace(self, settings: Settings) -> bool:
        return bool(self.fps) and abs(settings.fps / self.fps - 1) <= SAME_PACE

    def notices(self, settings: Settings) -> list[str]:
        """Return notices on the selection. settings: settings of the run, with number of frames and rate."""
        timeline, said = self.chosen.timeline, [*self.source.notices, *of_source(settings, from_video=self.is_video)]
        said += self._sound_notices(settings) if with_sound(settings) and not settings.sound_file else []
        if self.more:
            used = "first is" if settings.frames == 1 else f"first {settings.frames} are"
            said.append(f"{self.path} has more pictures than the clip has frames; the {used} used")
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
        return said

    def _sound_notices(self, settings: Settings) -> list[str]:
        found, problem = self._sound
        return list(filter(None, [problem or (self._sound_conflict(settings) if found else "")]))


def with_sound(settings: Settings) -> bool:
    """Return whether one of the formats can contain sound, and the settings do not ask for none."""
    return not settings.is_silent and any(WRITERS[name].has_sound for name in settings.formats if name in WRITERS)


def selection(settings: Settings) -> Selection:
    """Return the settings' selection."""
    return Selection(settings.video_start, settings.video_end, settings.video_fps, settings.video_every,
                     settings.video_max_frames)


@dataclass(frozen=True)
class ChangeMask:
    """A mask for a source: where it is 255, the clip may change, where it is 0, it stays the source."""

    pictures: StoredPictures  # uint8 [n h w]
    at: tuple[int, ...]  # number of the picture for each frame of the clip
    notices: tuple[str, ...] = ()

    @classmethod
    def read(cls, path: str, frames: SourceFrames, count: int, size: tuple[int, int], fit: str) -> ChangeMask:
        """Read the mask for a clip of `count` frames. Raises MediaError if it does not fit the source."""
        mask = Source.open(path)
        numbers = _beside(mask.timeline, frames.chosen, count, path)
        places = {number: place for place, number in enumerate(sorted(set(numbers)))}
        sizes: list[tuple[int, int]] = []

        def fitted(image: Image.Image) -> np.ndarray:
            sizes.append(image.size)
            return np.asarray(read.fitted(image, *size, fit))

        found = StoredPictures(map(fitted, mask.pictures([*places], masks.gray)))
        return cls(found, tuple(places[number] for number in numbers), _other_shape(path, sizes[0], frames))

    def __getitem__(self, frame: int) -> np.ndarray:
        return self.pictures[self.at[frame]]

    def composed(self, picture: np.ndarray, source: np.ndarray, frame: int) -> np.ndarray:
        """Return a finished frame, uint8 or uint16 [h w 3], with the source's pixels, uint8, where the mask is black.

        From black to an eighth of white, the two are mixed.
        """
        if picture.dtype == np.uint16:
            source = source.astype(np.uint16) * 257
        share = np.minimum(self[frame].astype(np.float32) / NOTHING_KEPT, 1)[..., None]
        return (picture * share + source * (1 - share)).round().astype(picture.dtype)


def mask_notices(path: str, frames: SourceFrames) -> tuple[str, ...]:
    """Return the notices of `ChangeMask.read`, before the run. Raises MediaError for an unreadable mask."""
    first = next(Source.open(path).pictures([0], masks.gray))
    return _other_shape(path, first.size, frames)


def _other_shape(path: str, size: tuple[int, int], frames: SourceFrames) -> tuple[str, ...]:
    """Return a notice if a mask of this size has another aspect ratio than the source."""
    (width, height), (own_width, own_height) = size, frames.size
    if abs(width * own_height / (height * own_width) - 1) <= SAME_SHAPE:
        return ()
    return (f"the mask {Path(path).name} ({width}x{height}) has another aspect ratio than the source "
            f"({own_width}x{own_height}), so its parts may not lie where they lie in the source",)


def _beside(mask: Timeline, chosen: Chosen, count: int, path: str) -> Sequence[int]:
    """Return the number of the mask's picture for each frame of the clip.

    A mask has one picture for all frames, or as many pictures as the source or the clip has frames, or times.
    """
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
