"""The live preview shows the clip as it moves.

The WebUI asks for a preview from the thread of a web request, while the job runs in another: modules/progress.py calls
`state.set_current_image`, which calls `state.do_set_current_image` when enough steps have passed, and writes
`state.current_image` with `image.save(buffer, format=…)` into a data: URI for an <img>. `moving_preview` replaces the
second by one that makes a picture whose `save` writes an animation. Nothing here imports the host.

    with moving_preview(shared.state, sd_samplers.sample_to_image, fps):
        sampler.sample(...)
"""
from __future__ import annotations

import io
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch
from PIL import Image

log = logging.getLogger(__name__)

FRAMES = 16  # at most so many are decoded for one preview
SIDE = 256  # pixels; larger previews cost time and traffic and say no more
SHORTEST = 0.02  # seconds; browsers show a frame of 10 ms or less for 100 ms
QUALITY = 80  # WebP of 16 frames of 256×256: about 0.2 MB and 0.2 s of one core; APNG: 2.4 MB and 0.5 s

Decode = Callable[[torch.Tensor, int], Image.Image]  # latents [f c h w] and which of them -> picture


class MovingPicture(Image.Image):
    """A picture that is its first frame in every respect, but writes an animation of all of them.

    `durations`: milliseconds of each frame. `save` ignores the format asked for and writes WebP (APNG where Pillow
    has no WebP), repeated for ever: browsers look at the bytes of an <img>, not at the type that a data: URI names.
    """

    frames: tuple[Image.Image, ...] = ()  # a copy made by pickling has none and is a still

    def __init__(self, frames: Sequence[Image.Image], durations: Sequence[int]):
        if not frames or len(frames) != len(durations):
            raise ValueError(f"{len(frames)} frames with {len(durations)} durations")
        pictures = tuple(frame.convert("RGB") for frame in frames)
        self.__setstate__(pictures[0].__getstate__())
        self.frames, self.durations = pictures, tuple(durations)
        self._lock = threading.Lock()
        self._encoded: bytes | None = None

    def save(self, fp: Any, format: str | None = None, **params: Any) -> None:
        """Write the animation to a path or a binary file; `format` and its parameters are for stills alone."""
        if not self.frames:
            return super().save(fp, format, **params)
        data = self.encoded()
        if hasattr(fp, "write"):
            fp.write(data)
        else:
            with open(fp, "wb") as file:
                file.write(data)

    def encoded(self) -> bytes:
        """The animation, encoded once for all who ask."""
        with self._lock:
            if self._encoded is None:
                try:
                    self._encoded = self._encode("WEBP", quality=QUALITY, method=0)
                except (KeyError, OSError):  # a Pillow without WebP
                    self._encoded = self._encode("PNG", compress_level=1)
            return self._encoded

    def _encode(self, format: str, **options: Any) -> bytes:
        buffer = io.BytesIO()
        self.frames[0].save(buffer, format, save_all=True, append_images=self.frames[1:], loop=0,
                            duration=list(self.durations), **options)
        return buffer.getvalue()


def pick(count: int, fps: float, most: int = FRAMES) -> tuple[list[int], list[int]]:
    """Which of `count` frames a preview has, evenly taken, and the milliseconds of each, which add up to the clip's."""
    taken = max(1, min(count, most, int(count / fps / SHORTEST)))
    starts = [i * count // taken for i in range(taken + 1)]
    times = [round(1000 * start / fps) for start in starts]
    return starts[:-1], [end - start for start, end in pairwise(times)]


def preview(latents: torch.Tensor | None, fps: float, decode: Decode, *, most: int = FRAMES, side: int = SIDE,
            wanted: Callable[[], bool] = lambda: True) -> MovingPicture | None:
    """A small moving picture of latents [f c h w]; None if they are no clip, or `wanted` says no on the way."""
    if latents is None or latents.ndim != 4 or len(latents) < 2:
        return None
    indices, durations = pick(len(latents), fps, most)
    frames = []
    with torch.no_grad():  # gradients are on by default in every new thread
        for index in indices:
            if not wanted():
                return None
            frames.append(_small(decode(latents, index), side))
    return MovingPicture(frames, durations)


def _small(picture: Image.Image, side: int) -> Image.Image:
    scale = side / max(picture.size)
    if scale >= 1:
        return picture
    width, height = (max(1, round(length * scale)) for length in picture.size)
    return picture.convert("RGB").resize((width, height), Image.Resampling.BILINEAR)


@contextmanager
def moving_preview(state: Any, decode: Decode, fps: float, *, direct: bool = False, most: int = FRAMES,
                   side: int = SIDE) -> Iterator[None]:
    """While it lasts, previews of `state` (the host's shared.state) move. Undone at the end, whatever happens.

    The latents are `state.current_latent` [f c h w]. One step is decoded once, however often the page asks. What is no
    clip, and any error, is left to the host. `direct`: set where the host does not preview from other threads
    (`not shared.parallel_processing_allowed`) but hands finished stills to `state.assign_current_image` while sampling.
    """
    if not (hasattr(state, "do_set_current_image") and hasattr(state, "assign_current_image")):
        yield  # a host that previews in another way keeps its own
        return
    preview_of = _Preview(state, decode, fps, most, side)
    replaced: dict[str, Any] = {"do_set_current_image": preview_of.update}
    if direct:
        replaced["assign_current_image"] = preview_of.assign
    before = {name: vars(state)[name] for name in replaced if name in vars(state)}
    try:
        for name, ours in replaced.items():
            setattr(state, name, ours)
        yield
    finally:
        for name, ours in replaced.items():
            if vars(state).get(name) is not ours:
                continue  # somebody has wrapped it since; what is inside now hands on to the host
            if name in before:
                setattr(state, name, before[name])
            else:
                delattr(state, name)
        preview_of.end()


class _Preview:
    """Remembers what was shown. Called from any thread, by several at once."""

    def __init__(self, state: Any, decode: Decode, fps: float, most: int, side: int):
        self.state, self.decode, self.fps, self.most, self.side = state, decode, fps, most, side
        self.host_update, self.host_assign = state.do_set_current_image, state.assign_current_image
        self.lock = threading.RLock()  # the host's update calls assign, which may be ours
        self.active, self.told = True, False
        self.tried: tuple[torch.Tensor, int] | None = None  # keeps the latents: an id alone may be given out again
        self.shown = False

    def update(self) -> None:
        """In place of state.do_set_current_image."""
        if not self.show():
            self.host_update()

    def assign(self, image: Image.Image) -> None:
        """In place of state.assign_current_image."""
        if isinstance(image, MovingPicture) or not self.show():
            self.host_assign(image)

    def show(self) -> bool:
        """Make a moving picture of the current latents the current image, or know that it is; False: it cannot be."""
        with self.lock:
            latents, step = self.state.current_latent, self.state.sampling_step
            whole = int(step)  # a part of a step, counted in windows, has brought no new latents
            if not self.active or latents is None:
                return False
            if self.tried is not None and self.tried[0] is latents and self.tried[1] == whole:
                return self.shown
            self.tried, self.shown = (latents, whole), False
            try:
                picture = preview(latents, self.fps, self.decode, most=self.most, side=self.side,
                                  wanted=lambda: self.active)
                if picture is None:
                    return False
                picture.encoded()  # here, where an error still leaves the host's own preview
            except Exception as error:
                if not self.told:
                    log.warning("AnimateDiff cannot show a moving preview (%s: %s); the WebUI's own is shown",
                                type(error).__name__, error)
                self.told = True
                return False
            self.host_assign(picture)
            self.state.current_image_sampling_step = step
            self.shown = True
            return True

    def end(self) -> None:
        """Hand everything on to the host from now; wait for a frame that is being decoded in another thread."""
        self.active = False
        if self.lock.acquire(timeout=5):
            self.lock.release()
        self.tried = None
