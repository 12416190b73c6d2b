"""Kinds of initial noise. A kind says which seed each frame draws from; everything else follows.

Generators live on the CPU, so a seed gives the same clip on every device, and each frame keeps its own
generator for the samplers that add noise in every step: what a frame draws does not depend on how many
frames are drawn beside it.
"""
from __future__ import annotations

from collections.abc import Callable

import torch

Seeds = list[int]
Kind = Callable[[int, int, int, int], Seeds]  # seed, frames, context, overlap (of windows, in frames) -> seeds


def per_frame(seed: int, frames: int, context: int, overlap: int) -> Seeds:
    """Frame i draws from seed + i, as the WebUI does for the pictures of a batch."""
    return [seed + i for i in range(frames)]


def per_clip(seed: int, frames: int, context: int, overlap: int) -> Seeds:
    """One generator draws all frames, one after another."""
    return [seed]


def constant(seed: int, frames: int, context: int, overlap: int) -> Seeds:
    """Every frame starts from the same noise."""
    return [seed] * frames


def repeated_context(seed: int, frames: int, context: int, overlap: int) -> Seeds:
    """The first `context` frames' noise, tiled over the clip."""
    return [seed + i % context for i in range(frames)]


def free_noise(seed: int, frames: int, context: int, overlap: int) -> Seeds:
    """FreeNoise's local shuffling (arXiv:2310.15169, sec. 3.3):
    each window has the first one's noise in another order."""
    order = torch.Generator("cpu").manual_seed(seed % 2**64)
    return [seed + i for i in shuffled(frames, context, context - overlap, order)]


def shuffled(frames: int, context: int, stride: int, order: torch.Generator) -> list[int]:
    """Which of the first `context` frames each frame has its noise from. Frames [s + context, s + context + stride) are
    a permutation of frames [s, s + stride), for s = 0, stride, 2·stride, …; the last ones are cut at the clip's end."""
    sources = list(range(min(frames, context)))
    for start in range(0, frames - context, stride):
        sources += [sources[start + k] for k in torch.randperm(stride, generator=order).tolist()]
    return sources[:frames]


KINDS: dict[str, Kind] = {
    "per frame": per_frame,
    "per clip": per_clip,
    "constant": constant,
    "repeated context": repeated_context,
    "FreeNoise": free_noise,
}


def generators(kind: str, seed: int, frames: int, context: int, overlap: int = 0) -> list[torch.Generator]:
    """One CPU generator for each frame, or a single one that draws the whole clip."""
    seeds = KINDS[kind](seed, frames, context, overlap)
    return [torch.Generator("cpu").manual_seed(s % 2**64) for s in seeds]


def draw(sources: list[torch.Generator], shape: tuple[int, int, int, int]) -> torch.Tensor:
    """The next standard normal noise [f c h w], float32 on the CPU; `shape` is (f, c, h, w)."""
    frames, *picture = shape
    if len(sources) == 1:
        return torch.randn(shape, generator=sources[0])
    if len(sources) != frames:
        raise ValueError(f"{len(sources)} generators for {frames} frames")
    noise = torch.empty(shape)
    for frame, source in zip(noise, sources):
        torch.randn(picture, generator=source, out=frame)
    return noise
