"""Clips that start from pictures: their initial latents, and frames that are held to pictures.

In each step, a held frame is its picture noised to that step's level, like the unmasked part in inpainting. A frame
with a lower lock is released after its share of the steps. It is not mixed with its picture, which would show both.
A frame with a lower denoising strength than others, or a grey part of a mask, is held until the step at which img2img
with its own strength would begin (Levin and Fried, "Differential Diffusion", arXiv:2306.00950).
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
    """Return how many of `steps` img2img does, as the WebUI counts them: at least one; all with strength 1."""
    return int(min(strength, 0.999) * steps) + 1


def steps_placed(steps: int, strength: float | None, *, exact: bool = False) -> tuple[int, int]:
    """Steps of the sampler's whole grid, and those that are done at its end. exact: `steps` are done, of a grid that is
    longer by the strength (the WebUI's setup_img2img_steps)."""
    if strength is None:
        return steps, steps
    if exact:
        return max(steps, int(steps / min(strength, 0.999)) if strength else 0), steps
    return steps, steps_done(steps, strength)


def kept(frames: int, power: float, scale: float) -> Tensor:
    """Return the picture's share in the initial latents of each frame, float64 [frames].

    The share is α_i = max(0, 1 − i^power/scale), as in sd-webui-animatediff. A scale of 0 means infinity: α_i = 1.
    """
    i = torch.arange(frames, dtype=torch.float64)
    return (1 - i**power / scale).clamp(min=0) if scale else torch.ones_like(i)


def kept_of_both(first: Tensor, last: Tensor) -> tuple[Tensor, Tensor]:
    """Return the shares of the first and the last picture in each frame.

    first, last: shares from `kept`, `last` counted from the clip's end. Where the sum is more than 1, both are divided
    by it. The first and the last frame have their picture alone.
    """
    last = last.flip(0)
    total = (first + last).clamp(min=1)
    first, last = first / total, last / total
    first[-1], last[-1] = 0, 1
    first[0], last[0] = 1, 0
    return first, last


def shares(settings: Settings, frames: int) -> Tensor:
    """Return the factor of the denoising strength for each frame, float64 [f]."""
    return torch.tensor(settings.curve("denoising_strength_frames", frames), dtype=torch.float64)


def run_strength(settings: Settings, frames: int) -> float:
    """Return the denoising strength of a sampler run: the highest of all frames."""
    return settings.denoising_strength * float(shares(settings, frames).max())


def until_share(steps: int, strength: float, share: Tensor, most: float) -> Tensor:
    """Return the share of a run's steps for which frames, or parts of them, are held.

    Held for so long, they are sampled from the step at which img2img with their own strength begins. The result has
    the shape of `share`. It is 1, to the end, where `share` is 0.

    steps: number of steps in the settings, before img2img skips some.
    strength: denoising strength in the settings.
    share: factor of the strength for each frame or part.
    most: the run's denoising strength, see `run_strength`.
    """
    done = steps_done(steps, most)
    own = ((share * strength).clamp(max=0.999) * steps).floor() + 1
    return torch.where(share > 0, (done - own).clamp(min=0) / done, 1.0)


@dataclass(frozen=True)
class Held:
    """Frames, or parts of frames, that are held to pictures."""

    pictures: Tensor  # latents [f c h w]
    until: Tensor  # share of the steps for which frames [f] or parts [f 1 h w] are held; 1: to the end

    def parts(self, progress: float) -> Tensor:
        """Return a mask of what is held in the step that begins at this share of the steps.

        The mask is bool, [f 1 1 1] or [f 1 h w].
        """
        until = self.until if self.until.ndim == 4 else self.until.view(-1, 1, 1, 1)
        return (progress < until) | (until >= 1)

    def into(self, out: Tensor, progress: float, answer: Callable[[Tensor], Tensor]) -> Tensor:
        """Return a network's output [f c h w], replaced by `answer(pictures)` where frames are held."""
        held = self.parts(progress).to(out.device)
        if not held.any():
            return out
        pictures = self.pictures.to(out)
        return torch.where(held, answer(pictures).to(out), out)

    def of(self, frames: Sequence[int]) -> Held:
        """Return the part for these frames."""
        return Held(self.pictures[list(frames)], self.until[list(frames)])

    def pinned(self, latents: Tensor) -> Tensor:
        """Return finished latents with the pictures in held frames. Some samplers leave noise after their last step."""
        return self.into(latents, 1.0, lambda pictures: pictures)


def answer(x: Tensor, x0: Tensor, alpha: Tensor, prediction: str = "epsilon") -> Tensor:
    """Return the exact prediction for x = √ᾱ·x₀ + √(1 − ᾱ)·ε, given x₀.

    alpha: ᾱ. prediction: "epsilon" for ε, or "v_prediction" for √ᾱ·ε − √(1 − ᾱ)·x₀ (arXiv:2202.00512, appendix D).
    """
    if prediction == "v_prediction":
        return (alpha.sqrt() * x - x0) / (1 - alpha).sqrt()
    return (x - alpha.sqrt() * x0) / (1 - alpha).sqrt()


def enlarged(latents: Tensor, height: int, width: int) -> Tensor:
    """Latents [f c h w] in this size, as the WebUI's upscaler "Latent" enlarges them."""
    if latents.shape[2:] == (height, width):
        return latents
    return torch.nn.functional.interpolate(latents, (height, width), mode="bilinear")


class FromPictures:
    """The start of a clip from pictures, in latents.

    first: latents of the start picture, [1 c h w] or repeated for each frame. With `each`: of a picture for each frame.
    last: latents of the picture for the last frame, [1 c h w].
    held_to: latents that frames are held to, if they differ from `first`.
    until: from `until_share`; None if all frames have the run's strength.
    """

    def __init__(self, settings: Settings, first: Tensor, last: Tensor | None = None, *, each: bool = False,
                 held_to: Tensor | None = None, until: Tensor | None = None):
        self.settings, self.first, self.last, self.each = settings, first, last, each
        self.held = self._held(first if held_to is None else held_to, until)

    def _held(self, pictures: Tensor, until: Tensor | None) -> Held | None:
        """Return the held frames. The frame lock is a curve over the distance from a given picture.

        Between two pictures, a frame is held to the one that holds it longer.
        """
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
        if until is not None and until.any():
            curve = until.maximum(curve.to(until).view([-1] + [1] * (until.ndim - 1)))
        return Held(pictures, curve) if curve.any() else None

    def start(self, noise: Callable[[], Tensor]) -> Tensor:
        """Return the initial latents [f c h w], to which the sampler adds its noise.

        noise(): draws more noise [f c h w]; called only if needed.
        """
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
    """Return whether any window wraps from the clip's end to its beginning."""
    plans = (windows.plan(s.frames, s.context_length, stride=s.stride, overlap=s.overlap, closed_loop=s.closed_loop,
                          schedule=s.context_schedule, step=step) for step in range(4))
    return any(a > b for plan in plans for window in plan for a, b in pairwise(window))


def _times(shares: Tensor, latents: Tensor) -> Tensor:
    return shares.to(latents).view(-1, 1, 1, 1) * latents
