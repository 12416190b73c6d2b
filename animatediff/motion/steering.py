"""How strongly a motion module acts: on which frame, where in the picture, at which step.

Motion scale multiplies K in the temporal attentions: below 1 frames look more alike, which is less motion; above 1 each
follows its nearest. Motion effect is the share of the module's change that is taken.
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

# A host tells scale and effect of a site from the numbers of its frames and its latents' height and width.
SteerOf = Callable[[Group, int, int], tuple[Scale, Scale]]


@dataclass(frozen=True)
class Mask:
    """Where a motion scale applies: uint8 pictures [h w], 255 for all of it, and which of them each frame has."""

    pictures: Sequence[np.ndarray]
    of_frame: tuple[int, ...]


@dataclass(frozen=True)
class Steering:
    """What a clip's settings say of scale and effect. `mask` shares between the `masked` scales, of black and white."""

    scale: tuple[float, ...]  # of each frame
    effect: tuple[float, ...]  # of each frame
    steps: Curve
    mask: Mask | None = None
    masked: tuple[float, float] = (0.0, 1.0)
    _sized: dict[tuple[int, int], Tensor] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(cls, settings: Settings, frames: int, mask: Mask | None = None) -> Steering | None:
        """None where the module acts as it was trained."""
        low, high = settings.motion_mask_min, settings.motion_mask_max
        mask = None if low == high == 1 else mask
        curves = [Curve.read(getattr(settings, f"motion_{name}")) for name in ("scale", "effect", "scale_steps")]
        if mask is None and all(curve.constant == 1 for curve in curves):
            return None
        scale, effect = (tuple(settings.curve(name, frames)) for name in ("motion_scale", "motion_effect"))
        return cls(scale, effect, curves[2], mask, (low, high))

    def at(self, step: int, steps: int, numbers: Group, height: int, width: int) -> tuple[Scale, Scale]:
        """Scale and effect of these frames at one level of the UNet, in a pass' sampler step `step`, counted from 0."""
        factor = self.steps.values(steps)[min(step, steps - 1)]
        size = len(numbers), height, width
        effect = _even([self.effect[i] for i in numbers], size)
        scale = [self.scale[i] * factor for i in numbers]
        if self.mask is None:
            return _even(scale, size), effect
        low, high = self.masked
        share = self._shares(self.mask, height, width)[[self.mask.of_frame[i] for i in numbers]]
        return torch.tensor(scale)[:, None, None] * (low + (high - low) * share), effect

    def _shares(self, mask: Mask, height: int, width: int) -> Tensor:
        """The mask's pictures in the size of a level, [picture h w] in 0..1: bilinear, over all the pixels that one
        becomes, as Pillow resizes."""
        if (height, width) not in self._sized:
            self._sized[height, width] = torch.cat([
                # In float64 the weights of white add up to 1.
                F.interpolate(
                    torch.tensor(picture)[None, None].double() / 255, (height, width), mode="bilinear", antialias=True
                )[0].float()
                for picture in mask.pictures
            ])
        return self._sized[height, width]


def _even(values: list[float], size: tuple[int, int, int]) -> Scale:
    """One number where all frames have the same, else [frame h w]."""
    return values[0] if len(set(values)) == 1 else torch.tensor(values)[:, None, None].expand(size)
