"""A video's frames by number: their times from its packets, and reading that begins at the key frame before."""
from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import pairwise
from typing import Any, BinaryIO

from PIL import Image

from animatediff.media.budget import PIXELS, Budget, check_size
from animatediff.media.decode import Transpose, picture_of, turn_of
from animatediff.media.opening import Kind
from animatediff.media.pyav import decoder_of, opened, video_stream

Make = Callable[[], Image.Image]
UNKNOWN = Fraction(1, 25)  # seconds of a frame whose file does not say
_CLOCK = re.compile(r"(\d+):(\d+):(\d+(?:\.\d+)?)", re.ASCII)  # Matroska's tag DURATION


class MissingFrameError(ValueError):
    """A decoder has left out a frame whose packet is there."""


@dataclass(frozen=True)
class VideoIndex:
    """pts: of each frame that is shown, ascending, in units of `base` seconds. end: behind the last one. keys: pts and
    dts of the frames at which decoding can begin; none where the packets do not tell, and frames are counted from the
    file's beginning. stated: seconds that the file says it lasts, 0 if it does not. damaged: why no more was read."""

    pts: tuple[int, ...]
    end: int
    base: Fraction
    keys: tuple[tuple[int, int], ...] = ()
    stated: Fraction = Fraction(0)
    damaged: Exception | None = None

    @classmethod
    def of(cls, file: BinaryIO, found: Kind, budget: Budget) -> VideoIndex:
        """Nothing is decoded where the packets tell the frames. TooMuchError where it costs more than `budget`."""
        with _video(file, found) as (container, stream):
            if stream is None:
                return cls((), 0, Fraction(1))
            base, stated = stream.time_base, _stated(container, stream)
            if index := _of_packets(container, stream, budget):
                return cls(index[0], index[1], base, index[2], stated)
        with _video(file, found) as (container, stream):
            pts, end, error = _of_frames(container, stream, budget)
            return cls(pts, end, base, stated=stated, damaged=error)

    def read(self, file: BinaryIO, found: Kind, wanted: Sequence[int], budget: Budget) -> Iterator[Make]:
        """What makes the picture of each wanted frame. Their numbers ascend, and may repeat."""
        turn: Transpose | None = None
        begun = False
        for run in self._runs(wanted):
            place = 0
            for number, frame, stream in self._from(file, found, run[0], budget):
                if not begun:
                    turn, begun = turn_of(frame), True
                while place < len(run) and run[place] == number:
                    yield partial(picture_of, frame, stream, turn)
                    place += 1
                if place == len(run):
                    break
                if number > run[place]:
                    raise MissingFrameError(f"frame {run[place]} cannot be decoded")
            else:
                raise MissingFrameError(f"frame {run[place]} cannot be decoded")

    def _runs(self, wanted: Sequence[int]) -> Iterator[Sequence[int]]:
        """The wanted frames in runs; between two, decoding can jump ahead to a key frame."""
        keys = [pts for pts, _ in self.keys]
        groups = [bisect_right(keys, self.pts[i]) for i in wanted]
        ends = [0, *(k for k, (a, b) in enumerate(pairwise(groups), 1) if b > a + 1), len(wanted)]
        yield from (wanted[a:b] for a, b in pairwise(ends) if b > a)

    def _from(self, file: BinaryIO, found: Kind, first: int, budget: Budget) -> Iterator[tuple[int, Any, Any]]:
        """Number, frame and stream, from the key frame before `first`; from the file's beginning where a seek does not
        find it. Most containers seek by pts, some by dts."""
        key = bisect_right([pts for pts, _ in self.keys], self.pts[first]) - 1
        for place in (*self.keys[key], None) if key > 0 else (None,):
            with _video(file, found) as (container, stream):
                if place is not None:
                    container.seek(place, stream=stream)
                for count, frame in enumerate(_decoded(container, stream, budget)):
                    number = bisect_right(self.pts, frame.pts) - 1 if self.keys else count
                    if place is not None and not count and number > first:
                        break
                    yield number, frame, stream
                else:
                    return


@contextmanager
def _video(file: BinaryIO, found: Kind) -> Iterator[tuple[Any, Any]]:
    file.seek(0)
    with opened(file, found.container, most_pixels=PIXELS) as container:
        stream = video_stream(container)
        if stream is not None:
            check_size(stream.width or 0, stream.height or 0)
        yield container, stream


def _decoded(container: Any, stream: Any, budget: Budget) -> Iterator[Any]:
    decoder = decoder_of(stream, most_pixels=PIXELS)
    for packet in container.demux(stream):
        if packet.size or packet.pts is None:  # not an empty packet in the middle, which stands for a dropped frame
            for frame in decoder.decode(packet):
                budget.take(frame.width, frame.height)
                yield frame


def _of_packets(container: Any, stream: Any, budget: Budget
                ) -> tuple[tuple[int, ...], int, tuple[tuple[int, int], ...]] | None:
    """pts, end and keys; None where a decoder may show other frames than the packets say: without times, damaged, or
    cut off at the front."""
    from av.error import FFmpegError

    pts: list[int] = []
    keys: list[tuple[int, int]] = []
    end = 0
    try:
        for packet in container.demux(stream):
            if not packet.size:
                continue
            if packet.pts is None or packet.is_corrupt or not (keys or packet.is_keyframe):
                return None
            if packet.is_keyframe:
                keys.append((packet.pts, packet.pts if packet.dts is None else packet.dts))
            if not packet.is_discard:
                pts.append(packet.pts)
                end = max(end, packet.pts + (packet.duration or 0))
                budget.expect(len(pts), stream.width, 1)
    except FFmpegError:
        return None
    pts.sort()
    if not pts or len(set(pts)) < len(pts) or pts[0] < keys[0][0]:
        return None
    return tuple(pts), _end(pts, end, stream), tuple(keys)


def _of_frames(container: Any, stream: Any, budget: Budget) -> tuple[tuple[int, ...], int, Exception | None]:
    """pts, end, and what ended the decoding of a damaged file."""
    from av.error import FFmpegError

    pts: list[int] = []
    end, usual = 0, _usual(stream)
    try:
        for frame in _decoded(container, stream, budget):
            before = pts[-1] if pts else None
            now = frame.pts if frame.pts is not None else 0 if before is None else before + usual
            pts.append(now if before is None or now > before else before + usual)
            end = pts[-1] + (getattr(frame, "duration", 0) or 0)
    except FFmpegError as error:
        return tuple(pts), _end(pts, end, stream), error
    return tuple(pts), _end(pts, end, stream), None


def _end(pts: Sequence[int], end: int, stream: Any) -> int:
    """Behind the last frame, which lasts as long as usual where its file does not say."""
    return end if pts and end > pts[-1] else (pts[-1] if pts else 0) + _usual(stream)


def _usual(stream: Any) -> int:
    """Units of a frame's time."""
    rate = stream.average_rate or stream.guessed_rate
    return max(1, round((1 / rate if rate else UNKNOWN) / stream.time_base))


def _stated(container: Any, stream: Any) -> Fraction:
    if stream.duration:
        return stream.duration * stream.time_base
    if clock := _CLOCK.match(stream.metadata.get("DURATION", "")):
        hours, minutes, seconds = map(Fraction, clock.groups())
        return hours * 3600 + minutes * 60 + seconds
    alone = len(container.streams) == 1 and container.duration
    return Fraction(container.duration, 10**6) if alone else Fraction(0)
