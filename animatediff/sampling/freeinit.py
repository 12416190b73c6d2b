"""FreeInit: noise for another round of sampling, with the low frequencies of the clip that the last one made.

Wu et al., "FreeInit: Bridging Initialization Gap in Video Diffusion Models" (arXiv:2312.07537, sec. 4). All of it is
done in float32 on the CPU, where every machine has an FFT, so that a seed gives the same clip on every device.
"""
from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from animatediff.settings import Settings

AXES = (0, 2, 3)  # of [f c h w]: frames, height, width


def low_pass(kind: str, shape: tuple[int, int, int], d_s: float = 0.25, d_t: float = 0.25, order: int = 4) -> Tensor:
    """How much of each frequency is kept, float64 [f h w] in 0 to 1; the frequencies lie as `fftshift` puts them.

    d_s, d_t: stop frequencies in space and time, as shares of the highest one; nothing is kept where one is 0. order:
    of the Butterworth filter. The values are those of the authors' code, with two repairs. There, frequency 0 of
    an odd size lies half a place beside the filter's middle, so that a clip of 3 frames hardly keeps its mean; and the
    width of the box is counted by the height.
    """
    stops = (d_t, d_s, d_s)
    if not all(stops):
        return torch.zeros(shape, dtype=torch.float64)
    part = _box if kind == "box" else _squared
    t, h, w = (part(size, stop).view([-1 if axis == i else 1 for i in range(3)])
               for axis, (size, stop) in enumerate(zip(shape, stops)))
    return t * h * w if kind == "box" else FILTERS[kind](t + h + w, d_s, order)


def _squared(size: int, stop: float) -> Tensor:
    """The squared distance of an axis' frequencies from 0, in stop frequencies."""
    return (2 * _places(size) / size / stop).square()


def _box(size: int, stop: float) -> Tensor:
    places, end = _places(size), round(size // 2 * stop)
    return ((-end <= places) & (places < end)).double()


def _places(size: int) -> Tensor:
    """The whole frequencies of an axis, 0 in the middle."""
    return torch.arange(size, dtype=torch.float64) - size // 2


# From the squared distance to frequency 0, in stop frequencies; d_s and the order. "ideal" is the authors' own form; by
# the book it would be 1.
FILTERS: dict[str, Callable[[Tensor, float, int], Tensor]] = {
    "butterworth": lambda squared, d_s, order: 1 / (1 + squared**order),
    "gaussian": lambda squared, d_s, order: (-squared / 2).exp(),
    "ideal": lambda squared, d_s, order: (squared <= 2 / d_s).double(),
}


def mixed(low: Tensor, high: Tensor, keep: Tensor) -> Tensor:
    """The low frequencies of one noise [f c h w] and the high ones of another; `keep` [f h w] from `low_pass`."""
    keep = torch.fft.ifftshift(keep)[:, None].float()
    spectra = [torch.fft.fftn(x.cpu().float(), dim=AXES) for x in (low, high)]
    return torch.fft.ifftn(spectra[0] * keep + spectra[1] * (1 - keep), dim=AXES).real


def diffused(clip: Tensor, noise: Tensor, alpha: float) -> Tensor:
    """√ᾱ·x₀ + √(1 − ᾱ)·ε (DDPM, arXiv:2006.11239, eq. 4); ᾱ of the last timestep, where sampling starts."""
    return alpha**0.5 * clip.cpu().float() + (1 - alpha) ** 0.5 * noise.cpu().float()


def diffused_over(picture: Tensor, clip: Tensor, noise: Tensor, sigma: float) -> Tensor:
    """ε + (x₀ − x)/σ, for sampling that starts from x + σ·ε with a picture x: with this in place of ε it starts from
    x₀ + σ·ε. With the whole of σ and nothing in the picture it is `diffused`, but for a factor close to 1."""
    return noise.cpu().float() + (clip.cpu().float() - picture.cpu().float()) / sigma


def renewed(settings: Settings, clip: Tensor, first: Tensor, fresh: Tensor, level: float,
            picture: Tensor | None = None) -> Tensor:
    """What the next iteration starts from in place of noise, float32 [f c h w] on the CPU.

    clip: that the last iteration made. first: the first iteration's noise. fresh: noise that was in no iteration yet.
    level: ᾱ of the last timestep; with `picture`, from which sampling starts, the σ at which it does.
    """
    frames, _, height, width = clip.shape
    seen = diffused(clip, first, level) if picture is None else diffused_over(picture, clip, first, level)
    keep = low_pass(settings.freeinit_filter, (frames, height, width), settings.freeinit_d_s, settings.freeinit_d_t,
                    settings.freeinit_order)
    return mixed(seen, fresh, keep)
