"""Kinds of initial noise. A kind assigns a seed to each frame.

Generators are on the CPU, so a seed gives the same clip on every device. Each frame keeps its own generator, also for
samplers that add noise in each step. So a frame's noise does not depend on the number of frames.
"""
from __future__ import annotations

from collections.abc import Callable

import torch

Seeds = list[int]
Kind = Callable[[int, int, int, int], Seeds]  # (seed, frames, context length, overlap in frames) -> seeds


def per_frame(seed: int, frames: int, context: int, overlap: int) -> Seeds:
    """Frame i has the seed `seed + i`, like the pictures of a batch in the WebUI."""
    return [seed + i for i in range(frames)]


def per_clip(seed: int, frames: int, context: int, overlap: int) -> Seeds:
    """All frames are drawn from one generator."""
    return [seed]


def constant(seed: int, frames: int, context: int, overlap: int) -> Seeds:
    """All frames have the same noise."""
    return [seed] * frames


def repeated_context(seed: int, frames: int, context: int, overlap: int) -> Seeds:
    """The noise of the first `context` frames is repeated over the clip."""
    return [seed + i % context for i in range(frames)]


def free_noise(seed: int, frames: int, context: int, overlap: int) -> Seeds:
    """Each window has the first window's noise in another order (FreeNoise, arXiv:2310.15169, sec. 3.3)."""
    order = torch.Generator("cpu").manual_seed(seed % 2**64)
    return [seed + i for i in shuffled(frames, context, context - overlap, order)]


def shuffled(frames: int, context: int, stride: int, order: torch.Generator) -> list[int]:
    """Return for each frame the one of the first `context` frames whose noise it has.

    Frames [s + context, s + context + stride) are a permutation of frames [s, s + stride), for s = 0, stride,
    2·stride, …; the last group is cut at the clip's end.
    """
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
    """Return a CPU generator for each frame, or a list of one that draws the whole clip."""
    seeds = KINDS[kind](seed, frames, context, overlap)
    return [torch.Generator("cpu").manual_seed(s % 2**64) for s in seeds]


def draw(sources: list[torch.Generator], shape: tuple[int, int, int, int]) -> torch.Tensor:
    """Return the next standard normal noise, float32 [f c h w] on the CPU. `shape` is (f, c, h, w)."""
    frames, *picture = shape
    if len(sources) == 1:
        return torch.randn(shape, generator=sources[0])
    if len(sources) != frames:
        raise ValueError(f"{len(sources)} generators for {frames} frames")
    noise = torch.empty(shape)
    for frame, source in zip(noise, sources):
        torch.randn(picture, generator=source, out=frame)
    return noise
