"""Weights of several products as one, which computes them together."""
from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def side_by_side(weights: Sequence[Tensor]) -> Tensor:
    """Weights [out in] of one shape as one [(weight out) in].

    They become parts of it, so that no memory is taken twice; their values stay. Where they are moved or exchanged they
    lie apart again, until the next call.
    """
    first, *others = weights
    lie_so = (all(each.is_contiguous() for each in weights)
              and all(each.untyped_storage().data_ptr() == first.untyped_storage().data_ptr()
                      and each.storage_offset() == first.storage_offset() + place * first.numel()
                      for place, each in enumerate(others, 1)))
    if not lie_so:
        with torch.inference_mode(False):
            together = torch.cat([each.detach() for each in weights])
        if any(each.is_inference() for each in weights):  # whose data cannot be exchanged
            return together
        for weight, part in zip(weights, together.split(len(first))):
            weight.data = part
    return first.detach().as_strided((len(weights) * len(first), first.shape[1]), (first.shape[1], 1))
