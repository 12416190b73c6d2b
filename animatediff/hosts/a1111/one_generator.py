"""Noise per clip: the host's noise source, drawing all frames from one seed."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from modules import rng, shared
from torch import Tensor

from animatediff.attribute import attribute


class OneGenerator:
    """Replacement for a host's `ImageRNG`. Draws [f c h w] at a time."""

    def __init__(self, source: rng.ImageRNG):
        self.shape, self.count = source.shape, len(source.seeds)
        self.generator = rng.create_generator(source.seeds[0])
        self.frames: Sequence[int] | None = None  # frames to draw; None for all

    def next(self) -> Tensor:
        count = self.count if self.frames is None else len(self.frames)
        drawn = rng.randn_without_seed((count, *self.shape), generator=self.generator).to(shared.device)
        if self.frames is None:
            return drawn
        noise = drawn.new_zeros(self.count, *self.shape)
        noise[list(self.frames)] = drawn
        return noise


@contextmanager
def of_frames_alone(source: object, frames: Sequence[int]) -> Iterator[None]:
    """Draw noise for these frames only, as the engine does, if the source is a OneGenerator.

    Other sources have a generator for each frame and are left as they are.
    """
    if isinstance(source, OneGenerator):
        with attribute(source, "frames", frames):
            yield
    else:
        yield
