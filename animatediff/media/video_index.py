"""The frames of a video by number. Their times come from its packets, and decoding begins at a key frame."""
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
UNKNOWN = Fraction(1, 25)  # seconds of a frame in a file without a frame rate
_CLOCK = re.compile(r"(\d+):(\d+):(\d+(?:\.\d+)?)", re.ASCII)  # Matroska's tag DURATION


class MissingFrameError(ValueError):
    """The decoder did not return a frame that has a packet."""


@dataclass(frozen=True)
class VideoIndex:
    """The times of a video's frames.

    If the packets do not determine the frames, all frames were decoded once and `keys` is empty.
    """

    pts: tuple[int, ...]  # of each frame that is shown, ascending
    end: int  # end of the last frame
    base: Fraction  # seconds of a unit of pts
    keys: tuple[tuple[int, int], ...] = ()  # pts and dts of the key frames
    stated: Fraction = Fraction(0)  # duration in the file's header, in seconds; 0 if there is none
    damaged: Exception | None = None  # error that ended the decoding

    @classmethod
    def of(cls, file: BinaryIO, found: Kind, budget: Budget) -> VideoIndex:
        """Index a file by its packets, or by decoding it if the packets do not determine the frames.

        Raises TooMuchError if the file exceeds `budget`.
        """
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
        """Yield a function for each wanted frame that returns its picture. The numbers ascend and may repeat."""
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
        """Split the wanted frames where decoding can skip to a later key frame."""
        keys = [pts for pts, _ in self.keys]
        groups = [bisect_right(keys, self.pts[i]) for i in wanted]
        ends = [0, *(k for k, (a, b) in enumerate(pairwise(groups), 1) if b > a + 1), len(wanted)]
        yield from (wanted[a:b] for a, b in pairwise(ends) if b > a)

    def _from(self, file: BinaryIO, found: Kind, first: int, budget: Budget) -> Iterator[tuple[int, Any, Any]]:
        """Yield number, frame and stream, from the key frame before `first` on.

        Most containers seek by pts, some by dts. If neither finds the frame, decoding begins at the file's beginning.
        """
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
        if packet.size or packet.pts is None:  # skip empty packets in the middle, which mean dropped frames
            for frame in decoder.decode(packet):
                budget.take(frame.width, frame.height)
                yield frame


def _of_packets(container: Any, stream: Any, budget: Budget
                ) -> tuple[tuple[int, ...], int, tuple[tuple[int, int], ...]] | None:
    """Return pts, end and keys.

    Returns None if a decoder may return other frames than there are packets: packets without times, damaged packets,
    or a file that does not begin with a key frame.
    """
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
    """Decode all frames. Return pts, end, and the error at which a damaged file ends."""
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
    """Return the end of the last frame. Without a duration in the file, it is as long as usual."""
    return end if pts and end > pts[-1] else (pts[-1] if pts else 0) + _usual(stream)


def _usual(stream: Any) -> int:
    """Return the usual duration of a frame, in units of pts."""
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
