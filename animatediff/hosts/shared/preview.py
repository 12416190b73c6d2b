"""A live preview that plays the clip.

The WebUI asks for a preview in the thread of a web request, while the job runs in another thread. modules/progress.py
calls `state.set_current_image`, which calls `state.do_set_current_image` after enough steps, and writes
`state.current_image` with `image.save(buffer, format=…)` into a data: URI for an <img>. `moving_preview` replaces
`do_set_current_image` by a function that creates a picture whose `save` writes an animation. Nothing here imports the
host.

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

FRAMES = 16  # most frames decoded for one preview
SIDE = 256  # longest side in pixels; larger previews cost time and traffic
SHORTEST = 0.02  # seconds; browsers show a frame of 10 ms or less for 100 ms
QUALITY = 80  # WebP of 16 frames of 256×256: about 0.2 MB and 0.2 s of one core; APNG: 2.4 MB and 0.5 s

Decode = Callable[[torch.Tensor, int], Image.Image]  # (latents [f c h w], index of a frame) -> picture


class MovingPicture(Image.Image):
    """A picture that looks like its first frame but saves as an animation of all frames.

    durations: milliseconds of each frame.
    `save` ignores the requested format and writes WebP, repeated for ever, or APNG if Pillow has no WebP. Browsers
    detect the type of an <img> from its bytes, not from the type in a data: URI.
    """

    frames: tuple[Image.Image, ...] = ()  # a pickled copy has none and is a still

    def __init__(self, frames: Sequence[Image.Image], durations: Sequence[int]):
        if not frames or len(frames) != len(durations):
            raise ValueError(f"{len(frames)} frames with {len(durations)} durations")
        pictures = tuple(frame.convert("RGB") for frame in frames)
        self.__setstate__(pictures[0].__getstate__())
        self.frames, self.durations = pictures, tuple(durations)
        self._lock = threading.Lock()
        self._encoded: bytes | None = None

    def save(self, fp: Any, format: str | None = None, **params: Any) -> None:
        """Write the animation to a path or a binary file. `format` and `params` apply only to stills."""
        if not self.frames:
            return super().save(fp, format, **params)
        data = self.encoded()
        if hasattr(fp, "write"):
            fp.write(data)
        else:
            with open(fp, "wb") as file:
                file.write(data)

    def encoded(self) -> bytes:
        """Return the encoded animation, computed once."""
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
    """Return the indices of evenly spaced frames for a preview, and their milliseconds, whose sum is the clip's length.
    """
    taken = max(1, min(count, most, int(count / fps / SHORTEST)))
    starts = [i * count // taken for i in range(taken + 1)]
    times = [round(1000 * start / fps) for start in starts]
    return starts[:-1], [end - start for start, end in pairwise(times)]


def preview(latents: torch.Tensor | None, fps: float, decode: Decode, *, most: int = FRAMES, side: int = SIDE,
            wanted: Callable[[], bool] = lambda: True) -> MovingPicture | None:
    """Return a small animation of latents [f c h w], or None if they are no clip or `wanted` returns False meanwhile.
    """
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
    """Make the previews of `state` (the host's shared.state) move inside the block.

    The latents are `state.current_latent` [f c h w]. Each step is decoded only once. If they are no clip, or after an
    error, the host makes its own preview.
    direct: set if the host does not preview from other threads (`not shared.parallel_processing_allowed`) but passes
        finished stills to `state.assign_current_image` while sampling.
    """
    if not (hasattr(state, "do_set_current_image") and hasattr(state, "assign_current_image")):
        yield  # a host with another kind of preview keeps it
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
                continue  # another extension has wrapped it; ours, now inactive, calls the host's
            if name in before:
                setattr(state, name, before[name])
            else:
                delattr(state, name)
        preview_of.end()


class _Preview:
    """The current preview. Its methods may be called from several threads at once."""

    def __init__(self, state: Any, decode: Decode, fps: float, most: int, side: int):
        self.state, self.decode, self.fps, self.most, self.side = state, decode, fps, most, side
        self.host_update, self.host_assign = state.do_set_current_image, state.assign_current_image
        self.lock = threading.RLock()  # the host's update calls assign, which may be ours
        self.active, self.reported = True, False
        self.tried: tuple[torch.Tensor, int] | None = None  # holds the latents, since an id could be reused
        self.shown = False

    def update(self) -> None:
        """Replacement of state.do_set_current_image."""
        if not self.show():
            self.host_update()

    def assign(self, image: Image.Image) -> None:
        """Replacement of state.assign_current_image."""
        if isinstance(image, MovingPicture) or not self.show():
            self.host_assign(image)

    def show(self) -> bool:
        """Make an animation of the current latents the current image. Return whether it is shown."""
        with self.lock:
            latents, step = self.state.current_latent, self.state.sampling_step
            whole = int(step)  # latents change only with whole steps, but windows count as fractions
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
                picture.encoded()  # encode now, so that after an error the host can still make its own preview
            except Exception as error:
                if not self.reported:
                    log.warning("AnimateDiff cannot show a moving preview (%s: %s); the WebUI's own is shown",
                                type(error).__name__, error)
                self.reported = True
                return False
            self.host_assign(picture)
            self.state.current_image_sampling_step = step
            self.shown = True
            return True

    def end(self) -> None:
        """Forward all further calls to the host. Wait for a frame that another thread is decoding."""
        self.active = False
        if self.lock.acquire(timeout=5):
            self.lock.release()
        self.tried = None
