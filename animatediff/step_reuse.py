"""Feature reuse: the sampler steps in which the whole UNet runs. Other steps reuse features of the last whole step.

Features change less between later steps. So whole steps are dense at the beginning, which determines layout and motion,
and become sparser towards the end. The last step is whole (DeepCache's non-uniform steps, arXiv:2312.00858).
"""
from __future__ import annotations

from functools import cache

SHARES = {"exact": 1.0, "balanced": 0.55, "draft": 0.4}  # preset -> share of whole steps
LEAST = 7  # smallest number of whole steps; with fewer, neighbouring steps differ too much
POWER = 1.6  # how fast the distance between whole steps grows


@cache
def whole_steps(speed: str, steps: int) -> frozenset[int]:
    """Return the whole steps of a run of `steps` steps, counted from 0. speed: a name in SHARES."""
    count = min(steps, max(LEAST, round(SHARES[speed] * steps)))
    if count == steps:
        return frozenset(range(steps))
    last = steps - 1
    return frozenset(max(i, int(last * (i / (count - 1)) ** POWER + 0.5)) for i in range(count))
