"""GIF palettes by ffmpeg's filters palettegen and paletteuse, in several threads."""
from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from fractions import Fraction
from typing import Any

import numpy as np

from animatediff.media.pyav import library, video_frame
from animatediff.media.write.base import CORES


class Palette:
    """Runs palettegen over frames that are added one by one, and then paletteuse for the same frames.

    Holds some frames. palettegen holds a count for each distinct colour (measured: 325 MB after 48 noisy frames of
    512×512, where every frame has new colours).
    """

    def __init__(self, fps: Fraction):
        self.fps, self.count = fps, 0
        self._graph = library().filter.Graph()
        self._pictures: Any = None
        self._sink: Any = None

    def add(self, frame: np.ndarray) -> None:
        if self._pictures is None:
            self._pictures, self._sink = _source(self._graph, frame, self.fps), self._graph.add("buffersink")
            maker = self._graph.add("palettegen", "reserve_transparent=0")
            self._graph.link_nodes(self._pictures, maker, self._sink).configure()
        self._pictures.push(video_frame(frame, self.count, self.fps))
        list(_made(self._sink))
        self.count += 1

    def mapped(self, frames: Iterator[np.ndarray], dither: bool,
               threads: int = CORES) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the indices [h w] of each frame, and the palette [256 3]. Afterwards no frame can be added."""
        self._pictures.push(None)
        palette, = _made(self._sink)
        palette.pts, palette.time_base = 0, 1 / self.fps
        colours = palette.to_ndarray(format="rgb24").reshape(-1, 3)
        users = [_User(palette, self.fps, dither) for _ in range(threads)]
        coming: deque[Future[np.ndarray]] = deque()
        before = None
        try:
            for frame in frames:
                alone = before is None or _wholly_changed(before, frame)
                # `users` is in order of last use: the first is the least busy, the last has the previous frame.
                user = next((u for u in users if alone and u.can_begin_with(frame)), users[-1])
                users.remove(user)
                users.append(user)
                coming.append(user.map(frame))
                before = frame
                if len(coming) > 2 * threads:
                    yield coming.popleft().result(), colours
            while coming:
                yield coming.popleft().result(), colours
        finally:
            for user in users:
                user.thread.shutdown(cancel_futures=True)


class _User:
    """One paletteuse filter in its own thread.

    Outside the changed rectangle, paletteuse repeats its previous output. So a frame goes to the filter that had the
    previous frame. If the whole frame changed, it can go to any filter whose last frame differs everywhere as well.
    """

    def __init__(self, palette: Any, fps: Fraction, dither: bool):
        self.thread = ThreadPoolExecutor(1, "paletteuse")
        self._palette, self._fps = palette, fps
        self._options = f"dither={'sierra2_4a' if dither else 'none'}:diff_mode=rectangle"
        self._graph: Any = None
        self._pictures: Any = None
        self._sink: Any = None
        self._last: np.ndarray | None = None
        self._count = 0

    def can_begin_with(self, frame: np.ndarray) -> bool:
        return self._last is None or _wholly_changed(self._last, frame)

    def map(self, frame: np.ndarray) -> Future[np.ndarray]:
        self._last = frame
        return self.thread.submit(self._map, frame)

    def _map(self, frame: np.ndarray) -> np.ndarray:
        if self._graph is None:
            self._open(frame)
        self._pictures.push(video_frame(frame, self._count, self._fps))
        self._count += 1
        picture, = _made(self._sink)
        return picture.to_ndarray()[0]

    def _open(self, frame: np.ndarray) -> None:
        self._graph = library().filter.Graph()
        self._pictures, self._sink = _source(self._graph, frame, self._fps), self._graph.add("buffersink")
        book = self._graph.add_buffer(width=16, height=16, format=self._palette.format.name, time_base=1 / self._fps)
        use = self._graph.add("paletteuse", self._options)
        self._pictures.link_to(use, 0, 0)
        book.link_to(use, 0, 1)
        use.link_to(self._sink)
        self._graph.configure()
        book.push(self._palette)
        book.push(None)


def _wholly_changed(before: np.ndarray, now: np.ndarray) -> bool:
    """Return whether the changed rectangle is the whole frame: each of the four sides has a changed pixel."""
    return all(bool((before[side] != now[side]).any()) for side in (0, -1, np.s_[:, 0], np.s_[:, -1]))


def _source(graph: Any, frame: np.ndarray, fps: Fraction) -> Any:
    height, width = frame.shape[:2]
    return graph.add_buffer(width=width, height=height, format="rgb24", time_base=1 / fps)


def _made(sink: Any) -> Iterator[Any]:
    """Yield the finished frames of a graph. Pulling also runs the filters; otherwise frames would pile up."""
    av = library()
    while True:
        try:
            yield sink.pull()
        except (av.BlockingIOError, av.EOFError):
            return
