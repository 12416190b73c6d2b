"""Attention that takes less memory: rows of the batch, and positions of the motion module, in turns."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from torch import nn

from animatediff.attribute import attribute
from animatediff.motion.module import MotionModule
from animatediff.unet.in_parts import rows_in_turns

POSITIONS = 1_024  # of a temporal attention at a time


@contextmanager
def in_parts(unet: nn.Module, module: MotionModule | None) -> Iterator[None]:
    """For the length of the block, self-attention and feed-forward of `unet`, in LDM or diffusers layout, take a row at
    a time, whatever computes them, and temporal attention POSITIONS positions. The numbers are the same."""
    sites = module.sites().values() if module else ()
    with ExitStack() as stack:
        stack.enter_context(rows_in_turns(unet))
        for site in sites:
            stack.enter_context(attribute(site.temporal_transformer, "most_positions", POSITIONS))
        yield
