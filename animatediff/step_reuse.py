"""In which sampler steps the UNet runs as a whole; in the others it goes on with what the last of these made.

Neighbouring steps are the more alike the later they are, so whole steps lie apart by a growing number: dense at the
beginning, which decides on layout and motion, and the last one (DeepCache's non-uniform steps, arXiv:2312.00858).
"""
from __future__ import annotations

from functools import cache

SHARES = {"exact": 1.0, "balanced": 0.55, "draft": 0.4}  # of the steps that are whole
LEAST = 7  # whole steps: where there are so few, neighbours differ too much
POWER = 1.6


@cache
def whole_steps(speed: str, steps: int) -> frozenset[int]:
    """Of `steps`, counted from 0."""
    count = min(steps, max(LEAST, round(SHARES[speed] * steps)))
    if count == steps:
        return frozenset(range(steps))
    last = steps - 1
    return frozenset(max(i, int(last * (i / (count - 1)) ** POWER + 0.5)) for i in range(count))
