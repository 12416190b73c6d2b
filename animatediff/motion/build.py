"""A fresh motion module, for training."""

from __future__ import annotations

from torch import nn

from animatediff.motion.families import FAMILIES, Family
from animatediff.motion.module import MotionModule


def build(
    widths: tuple[int, ...], family: Family | str, *, frames: int | None = None, heads: int = 8, name: str = ""
) -> MotionModule:
    """A module for a UNet of these `widths` (channels per level) that changes nothing yet: `proj_out` is zero.

    `frames` is the length of the positional encoding, the family's own when None.
    """
    family = FAMILIES[family] if isinstance(family, str) else family
    module = MotionModule(family, tuple(widths), max_frames=frames or family.max_frames, heads=heads, name=name)
    for site in module.sites().values():
        nn.init.zeros_(site.temporal_transformer.proj_out.weight)
        nn.init.zeros_(site.temporal_transformer.proj_out.bias)
    return module
