"""A source video: a video file, an animated picture, a folder of pictures, or one picture.

    source = Source.open("walk.mp4")
    chosen = source.chosen(Selection(start=2, fps=12))
    for picture in source.pictures(chosen.indices):
        ...

Frames are decoded one by one. Decoding begins at the last key frame before the first chosen frame.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import accumulate
from pathlib import Path
from typing import Any

from PIL import Image

from animatediff import user_paths
from animatediff.errors import MediaError, end_of
from animatediff.media import decode, read
from animatediff.media.budget import Budget, of_source
from animatediff.media.interpolate.plan import steady_rate
from animatediff.media.selection import Chosen, Selection, Timeline
from animatediff.media.timing import duration
from animatediff.media.video_index import VideoIndex

SHORT = Fraction(1, 2)  # seconds by which a file may be shorter than its header says without a notice
_Read = Callable[[Sequence[int], Budget], Iterator[Callable[[], Image.Image]]]


@dataclass(frozen=True)
class Source:
    """A source that has been opened once: its frames are counted and their times are known."""

    path: Path  # as given
    timeline: Timeline
    origin: Fraction = Fraction(0)  # time of the first frame in the container, in seconds
    notices: tuple[str, ...] = ()  # unexpected facts about the file
    damaged: MediaError | None = None  # set if the file ends with a frame that cannot be decoded
    is_video: bool = False  # a video file, which may have sound
    _read: _Read = field(repr=False, compare=False, default=lambda wanted, budget: iter(()))

    @classmethod
    def open(cls, path: str | Path) -> Source:
        """Count the frames of a file or folder, and read their times. Raises MediaError for other files."""
        path = user_paths.named(str(path))
        with read.refusals(path):
            if path.is_dir():
                return _folder(path)
            with read.opened(path) as (file, found):
                if found.container:
                    return _video(path, VideoIndex.of(file, found, of_source()))
                return _animation(path, [seconds for seconds, _ in decode.shown(file, found, of_source())])

    @classmethod
    def of_images(cls, images: Sequence[Image.Image], name: str) -> Source:
        """Pictures that are in memory. name: in messages."""
        def pictures(wanted: Sequence[int], budget: Budget) -> Iterator[Callable[[], Image.Image]]:
            for number in wanted:
                yield lambda number=number: images[number]

        return cls(Path(name), Timeline(tuple(map(Fraction, range(len(images)))), Fraction(0)), _read=pictures)

    @property
    def is_picture(self) -> bool:
        """Whether the source is a single picture, which has no times."""
        return len(self.timeline.times) == 1

    def chosen(self, selection: Selection, *, limited: bool = False) -> Chosen:
        """Return the frames of a selection.

        Raises SettingsError for a range outside of the source. Raises MediaError if the source is damaged and the
        selection goes to its end; limited: the caller takes only the first of the frames.
        """
        if self.damaged is not None and not (selection.end or selection.most or limited):
            raise self.damaged
        return selection.of(self.timeline)

    def pictures(self, indices: Sequence[int], look: Callable[[Image.Image], Any] = read.flat) -> Iterator[Any]:
        """Yield the frames with these numbers, one by one. The numbers ascend and may repeat.

        look(picture): converts each picture; by default to RGB, with transparent parts in white.
        """
        with read.refusals(self.path) as seen:
            for make in self._read(indices, of_source()):
                yield look(make())
                seen.count += 1


def _folder(path: Path) -> Source:
    files = read.in_folder(path)

    def pictures(wanted: Sequence[int], budget: Budget) -> Iterator[Callable[[], Image.Image]]:
        for number in wanted:
            picture = read.first(files[number])
            budget.take(*picture.size)
            yield lambda picture=picture: picture

    times = tuple(map(Fraction, range(len(files))))
    return Source(path, Timeline(times, Fraction(0)), _read=pictures)


def _animation(path: Path, delays: Sequence[float]) -> Source:
    """Return the source for an animated or a still picture."""
    seconds = [Fraction(each).limit_denominator(10**6) for each in delays]
    if not seconds:
        raise MediaError("has no pictures", where=end_of(path), remedy=read.REMEDY)
    ends = list(accumulate(seconds))
    whole = ends[-1] if len(seconds) > 1 else Fraction(0)

    def pictures(wanted: Sequence[int], budget: Budget) -> Iterator[Callable[[], Image.Image]]:
        place = 0
        with read.opened(path) as (file, now):
            for number, (_, make) in enumerate(decode.shown(file, now, budget)):
                while place < len(wanted) and wanted[place] == number:
                    yield make
                    place += 1
                if place == len(wanted):
                    return
        raise EOFError(f"{path.name} has changed")

    return Source(path, _timeline((Fraction(0), *ends[:-1]), seconds, whole), _read=pictures)


def _video(path: Path, index: VideoIndex) -> Source:
    pts, base = index.pts, index.base
    where = end_of(path)
    if not pts:
        raise MediaError(f"cannot be read ({index.damaged})" if index.damaged else "has no video frames",
                         where=where, remedy=read.REMEDY)
    times = tuple((each - pts[0]) * base for each in pts)
    whole = (index.end - pts[0]) * base
    durations = [b - a for a, b in zip(times, (*times[1:], whole))]
    notices = ()
    if index.stated > whole + max(SHORT, whole / 50):
        notices = (f"{where} says that it lasts {duration(float(index.stated))}, but its frames end after "
                   f"{duration(float(whole))}",)

    def pictures(wanted: Sequence[int], budget: Budget) -> Iterator[Callable[[], Image.Image]]:
        with read.opened(path) as (file, now):
            yield from index.read(file, now, wanted, budget)

    damaged = None
    if index.damaged is not None:
        damaged = MediaError(f"is incomplete or damaged: {len(pts)} of its frames can be read, "
                             f"{duration(float(whole))}", where=where,
                             remedy="Save it again, or set video_end before that")
    return Source(path, _timeline(times, durations, whole), pts[0] * base, notices, damaged, True, pictures)


def _timeline(times: tuple[Fraction, ...], durations: Sequence[Fraction], whole: Fraction) -> Timeline:
    return Timeline(times, whole, steady_rate(durations) if len(times) > 1 else None)
