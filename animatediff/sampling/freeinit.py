"""FreeInit: initial noise for another sampling iteration, with the low frequencies of the previous iteration's clip.

Wu et al., "FreeInit: Bridging Initialization Gap in Video Diffusion Models" (arXiv:2312.07537, sec. 4). All steps run
in float32 on the CPU, which always has an FFT. So a seed gives the same clip on every device.
"""
from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from animatediff.settings import Settings

AXES = (0, 2, 3)  # of [f c h w]: frames, height, width


def low_pass(kind: str, shape: tuple[int, int, int], d_s: float = 0.25, d_t: float = 0.25, order: int = 4) -> Tensor:
    """Return the share of each frequency that is kept: float64 [f h w] from 0 to 1, in the order of `fftshift`.

    kind: a name in FILTERS, or "box".
    d_s, d_t: stop frequencies in space and time, as shares of the highest frequency. If one is 0, nothing is kept.
    order: order of the Butterworth filter.

    The values are those of the authors' code, except for two corrections. In their code, frequency 0 of an odd size
    lies half an index beside the filter's centre, so a clip of 3 frames hardly keeps its mean; and the width of the box
    is computed from the height.
    """
    stops = (d_t, d_s, d_s)
    if not all(stops):
        return torch.zeros(shape, dtype=torch.float64)
    part = _box if kind == "box" else _squared
    t, h, w = (part(size, stop).view([-1 if axis == i else 1 for i in range(3)])
               for axis, (size, stop) in enumerate(zip(shape, stops)))
    return t * h * w if kind == "box" else FILTERS[kind](t + h + w, d_s, order)


def _squared(size: int, stop: float) -> Tensor:
    """Return the squared distance of an axis' frequencies from 0, in units of the stop frequency."""
    return (2 * _places(size) / size / stop).square()


def _box(size: int, stop: float) -> Tensor:
    places, end = _places(size), round(size // 2 * stop)
    return ((-end <= places) & (places < end)).double()


def _places(size: int) -> Tensor:
    """Return the integer frequencies of an axis, with 0 in the middle."""
    return torch.arange(size, dtype=torch.float64) - size // 2


# (squared distance from frequency 0, in stop frequencies; d_s; order) -> share that is kept. "ideal" is as in the
# authors' code; the textbook filter has the threshold 1.
FILTERS: dict[str, Callable[[Tensor, float, int], Tensor]] = {
    "butterworth": lambda squared, d_s, order: 1 / (1 + squared**order),
    "gaussian": lambda squared, d_s, order: (-squared / 2).exp(),
    "ideal": lambda squared, d_s, order: (squared <= 2 / d_s).double(),
}


def mixed(low: Tensor, high: Tensor, keep: Tensor) -> Tensor:
    """Return the low frequencies of `low` plus the high frequencies of `high`, both [f c h w], in float32.

    keep: [f h w] from `low_pass`.
    """
    keep = torch.fft.ifftshift(keep)[:, None].float()
    spectra = [torch.fft.fftn(x.cpu().float(), dim=AXES) for x in (low, high)]
    return torch.fft.ifftn(spectra[0] * keep + spectra[1] * (1 - keep), dim=AXES).real


def diffused(clip: Tensor, noise: Tensor, alpha: float) -> Tensor:
    """Return √ᾱ·x₀ + √(1 − ᾱ)·ε in float32 on the CPU (DDPM, arXiv:2006.11239, eq. 4).

    clip: x₀. noise: ε. alpha: ᾱ of the last timestep, where sampling starts.
    """
    return alpha**0.5 * clip.cpu().float() + (1 - alpha) ** 0.5 * noise.cpu().float()


def diffused_over(picture: Tensor, clip: Tensor, noise: Tensor, sigma: float) -> Tensor:
    """Return ε + (x₀ − x)/σ in float32 on the CPU.

    It is for img2img, where sampling starts from x + σ·ε with a picture x. With the result in place of ε, it starts
    from x₀ + σ·ε. For x = 0 and the largest σ the result equals `diffused`, up to a factor close to 1.

    picture: x. clip: x₀. noise: ε. sigma: σ.
    """
    return noise.cpu().float() + (clip.cpu().float() - picture.cpu().float()) / sigma


def renewed(settings: Settings, clip: Tensor, first: Tensor, fresh: Tensor, level: float,
            picture: Tensor | None = None) -> Tensor:
    """Return the initial noise of the next iteration, float32 [f c h w] on the CPU.

    clip: latents that the previous iteration made.
    first: noise of the first iteration.
    fresh: newly drawn noise.
    level: ᾱ of the last timestep; with `picture`, the σ at which sampling starts.
    picture: latents from which img2img starts.
    """
    frames, _, height, width = clip.shape
    seen = diffused(clip, first, level) if picture is None else diffused_over(picture, clip, first, level)
    keep = low_pass(settings.freeinit_filter, (frames, height, width), settings.freeinit_d_s, settings.freeinit_d_t,
                    settings.freeinit_order)
    return mixed(seen, fresh, keep)
