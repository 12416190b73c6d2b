"""The strength of a motion module per frame, picture region and sampler step.

Motion scale multiplies the keys of the temporal attentions. Below 1, frames look more alike, which means less motion;
above 1, each frame follows its nearest ones. Motion effect multiplies the module's change of the features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from animatediff.curves import Curve
from animatediff.layout import Group
from animatediff.motion.scale import Scale
from animatediff.settings import Settings

# (frame numbers, height and width of the features) -> (motion scale, motion effect) of a site
SteerOf = Callable[[Group, int, int], tuple[Scale, Scale]]


@dataclass(frozen=True)
class Mask:
    """The region in which a motion scale applies."""

    pictures: Sequence[np.ndarray]  # uint8 [h w]; 255 applies the scale fully
    of_frame: tuple[int, ...]  # index of each frame's picture


@dataclass(frozen=True)
class Steering:
    """Motion scale and motion effect of a clip."""

    scale: tuple[float, ...]  # per frame
    effect: tuple[float, ...]  # per frame
    steps: Curve  # factor of the scale per sampler step
    mask: Mask | None = None
    masked: tuple[float, float] = (0.0, 1.0)  # factors of the scale where the mask is black and white
    _sized: dict[tuple[int, int], Tensor] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(cls, settings: Settings, frames: int, mask: Mask | None = None) -> Steering | None:
        """Return the Steering of these settings; None if scale and effect are 1 everywhere."""
        low, high = settings.motion_mask_min, settings.motion_mask_max
        mask = None if low == high == 1 else mask
        curves = [Curve.read(getattr(settings, f"motion_{name}")) for name in ("scale", "effect", "scale_steps")]
        if mask is None and all(curve.constant == 1 for curve in curves):
            return None
        scale, effect = (tuple(settings.curve(name, frames)) for name in ("motion_scale", "motion_effect"))
        return cls(scale, effect, curves[2], mask, (low, high))

    def at(self, step: int, steps: int, numbers: Group, height: int, width: int) -> tuple[Scale, Scale]:
        """Return scale and effect of these frames, each a number or [frame h w].

        step: sampler step of the pass, counted from 0. steps: number of sampler steps.
        numbers: frame numbers. height, width: size of the features at this level of the UNet.
        """
        factor = self.steps.values(steps)[min(step, steps - 1)]
        size = len(numbers), height, width
        effect = _per_frame([self.effect[i] for i in numbers], size)
        scale = [self.scale[i] * factor for i in numbers]
        if self.mask is None:
            return _per_frame(scale, size), effect
        low, high = self.masked
        share = self._shares(self.mask, height, width)[[self.mask.of_frame[i] for i in numbers]]
        return torch.tensor(scale)[:, None, None] * (low + (high - low) * share), effect

    def _shares(self, mask: Mask, height: int, width: int) -> Tensor:
        """Return the mask's pictures in this size, [picture h w] in 0..1; bilinear with antialiasing, as in Pillow."""
        if (height, width) not in self._sized:
            self._sized[height, width] = torch.cat([
                # float64, so that white stays exactly 1.
                F.interpolate(
                    torch.tensor(picture)[None, None].double() / 255, (height, width), mode="bilinear", antialias=True
                )[0].float()
                for picture in mask.pictures
            ])
        return self._sized[height, width]


def _per_frame(values: list[float], size: tuple[int, int, int]) -> Scale:
    """Return one number if all frames have the same value, else [frame h w]."""
    return values[0] if len(set(values)) == 1 else torch.tensor(values)[:, None, None].expand(size)
