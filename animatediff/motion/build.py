"""Create a new motion module for training."""

from __future__ import annotations

from torch import nn

from animatediff.motion.families import FAMILIES, Family
from animatediff.motion.module import MotionModule


def build(
    widths: tuple[int, ...], family: Family | str, *, frames: int | None = None, heads: int = 8, name: str = ""
) -> MotionModule:
    """Return a new motion module whose `proj_out` is zero, so that it does not change the UNet's output.

    widths: channels per level of the UNet, outermost first.
    frames: length of the positional encoding; None means the family's `max_frames`.
    """
    family = FAMILIES[family] if isinstance(family, str) else family
    module = MotionModule(family, tuple(widths), max_frames=frames or family.max_frames, heads=heads, name=name)
    for site in module.sites().values():
        nn.init.zeros_(site.temporal_transformer.proj_out.weight)
        nn.init.zeros_(site.temporal_transformer.proj_out.bias)
    return module
