"""A clip that starts from pictures: what its frames start as, and how they are held to the pictures.

Held frames are, in every step, their pictures noised to that step's level, as the kept part in inpainting is. A frame
that is to drift is let go after its share of the steps instead of being mixed with its picture, which would show both.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from animatediff import windows
from animatediff.settings import Settings


def steps_done(steps: int, strength: float) -> int:
    """Steps that img2img does of `steps`, as the WebUI counts them: at least one, all with strength 1."""
    return int(min(strength, 0.999) * steps) + 1


def kept(frames: int, power: float, scale: float) -> Tensor:
    """α_i = max(0, 1 − i^power/scale), the share of the picture that frame i starts with; float64 [frames].

    sd-webui-animatediff's formula; a scale of 0 stands for an endless one, which keeps everything.
    """
    i = torch.arange(frames, dtype=torch.float64)
    return (1 - i**power / scale).clamp(min=0) if scale else torch.ones_like(i)


def kept_of_both(first: Tensor, last: Tensor) -> tuple[Tensor, Tensor]:
    """The shares of two pictures, `last` from its own end: no more than 1 together, both ends pinned."""
    last = last.flip(0)
    total = (first + last).clamp(min=1)
    first, last = first / total, last / total
    first[-1], last[-1] = 0, 1
    first[0], last[0] = 1, 0
    return first, last


@dataclass(frozen=True)
class Held:
    """`pictures` [f c h w] to which frames are held for the share `until` [f] of the steps; 1 is to the end."""

    pictures: Tensor
    until: Tensor

    def frames(self, progress: float) -> Tensor:
        """bool [f]: which frames are held in the step that begins at this share of the steps."""
        return (progress < self.until) | (self.until >= 1)

    def into(self, out: Tensor, progress: float, answer: Callable[[Tensor], Tensor]) -> Tensor:
        """A network's answer [f c h w], with that of a network that sees the pictures where frames are held."""
        held = self.frames(progress).to(out.device)
        if not held.any():
            return out
        pictures = self.pictures.to(out)
        return torch.where(held.view(-1, 1, 1, 1), answer(pictures).to(out), out)

    def of(self, frames: Sequence[int]) -> Held:
        """The same of these frames alone."""
        return Held(self.pictures[list(frames)], self.until[list(frames)])

    def pinned(self, latents: Tensor) -> Tensor:
        """Finished latents; some samplers leave a little noise behind their last step."""
        return self.into(latents, 1.0, lambda pictures: pictures)


def answer(x: Tensor, x0: Tensor, alpha: Tensor, prediction: str = "epsilon") -> Tensor:
    """What a network says of x = √ᾱ·x₀ + √(1 − ᾱ)·ε that knows x₀. alpha: ᾱ. prediction: "epsilon", or "v_prediction"
    for √ᾱ·ε − √(1 − ᾱ)·x₀ (arXiv:2202.00512, appendix D)."""
    if prediction == "v_prediction":
        return (alpha.sqrt() * x - x0) / (1 - alpha).sqrt()
    return (x - alpha.sqrt() * x0) / (1 - alpha).sqrt()


class FromPictures:
    """A clip's start, in latents.

    first: of the picture, [1 c h w] or repeated for each frame; with `each`, of a picture for each frame. last:
    [1 c h w], of the picture for the last frame. held_to: of the pictures that frames are held to, where `first` has
    been changed.
    """

    def __init__(self, settings: Settings, first: Tensor, last: Tensor | None = None, *, each: bool = False,
                 held_to: Tensor | None = None):
        self.settings, self.first, self.last, self.each = settings, first, last, each
        self.held = self._held(first if held_to is None else held_to)

    def _held(self, pictures: Tensor) -> Held | None:
        """Frames are held by their distance from a given picture; between two, to the one that holds them longer."""
        s, frames = self.settings, self.settings.frames
        curve = torch.tensor(s.curve("frame_lock", frames), dtype=torch.float64)
        place = torch.arange(frames)
        pictures = pictures.expand(frames, -1, -1, -1)
        if self.last is not None:
            from_first, from_last = curve, curve.flip(0)
            nearer = torch.where(from_first == from_last, place * 2 >= frames, from_last > from_first)
            pictures = torch.where(nearer.to(self.last.device).view(-1, 1, 1, 1), self.last, pictures)
            curve = from_first.maximum(from_last)
        elif _goes_round(s):  # the last frame is the first one's neighbour
            curve = curve[place.minimum(frames - place)]
        return Held(pictures, curve) if curve.any() else None

    def start(self, noise: Callable[[], Tensor]) -> Tensor:
        """Latents [f c h w] to which the sampler adds its own noise. `noise`: draws more [f c h w], if it is needed."""
        x = self._mixed(noise)
        return x if self.held is None else self.held.into(x, 0.0, lambda pictures: pictures)

    def _mixed(self, noise: Callable[[], Tensor]) -> Tensor:
        s, frames = self.settings, self.settings.frames
        of_first = kept(frames, s.latent_power, s.latent_scale)
        if self.last is not None:
            of_first, of_last = kept_of_both(of_first, kept(frames, s.latent_power_last, s.latent_scale_last))
            rest = 1 - of_first - of_last
            x = _times(of_first, self.first) + _times(of_last, self.last)
        elif self.each or (of_first == 1).all():
            return self.first.expand(frames, -1, -1, -1)
        else:
            rest, x = 1 - of_first, _times(of_first, self.first)
        return x + _times(rest, noise().to(x))


def _goes_round(s: Settings) -> bool:
    """Whether windows go over the clip's end to its beginning."""
    plans = (windows.plan(s.frames, s.context_length, stride=s.stride, overlap=s.overlap, closed_loop=s.closed_loop,
                          schedule=s.context_schedule, step=step) for step in range(4))
    return any(a > b for plan in plans for window in plan for a, b in pairwise(window))


def _times(shares: Tensor, latents: Tensor) -> Tensor:
    return shares.to(latents).view(-1, 1, 1, 1) * latents
