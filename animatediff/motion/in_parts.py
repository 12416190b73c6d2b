"""Reduce the memory of attention: process the rows of the batch one by one, and temporal attention in small parts."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from torch import nn

from animatediff.attribute import attribute
from animatediff.motion.module import MotionModule
from animatediff.unet.in_parts import rows_in_turns

POSITIONS = 1_024  # positions that a temporal attention processes at a time


@contextmanager
def in_parts(unet: nn.Module, module: MotionModule | None) -> Iterator[None]:
    """Context manager in which `unet` and `module` compute in smaller parts. The results are the same.

    Self-attention and feed-forward of `unet` (LDM or diffusers layout) process one row of the batch at a time, with any
    attention implementation. Temporal attention processes POSITIONS positions at a time.
    """
    sites = module.sites().values() if module else ()
    with ExitStack() as stack:
        stack.enter_context(rows_in_turns(unet))
        for site in sites:
            stack.enter_context(attribute(site.temporal_transformer, "most_positions", POSITIONS))
        yield
