"""Join the weights of several linear layers, so that one product computes all of them."""
from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def side_by_side(weights: Sequence[Tensor]) -> Tensor:
    """Return weights [out in] of the same shape as one tensor [(weight out) in].

    The weights become views of it, with the same values, so that it takes no extra memory. If a weight is moved or
    replaced, the next call joins them again. Inference tensors stay separate; their result is a copy.
    """
    first, *others = weights
    is_joined = (all(each.is_contiguous() for each in weights)
              and all(each.untyped_storage().data_ptr() == first.untyped_storage().data_ptr()
                      and each.storage_offset() == first.storage_offset() + place * first.numel()
                      for place, each in enumerate(others, 1)))
    if not is_joined:
        with torch.inference_mode(False):
            together = torch.cat([each.detach() for each in weights])
        if any(each.is_inference() for each in weights):  # their data cannot be replaced
            return together
        for weight, part in zip(weights, together.split(len(first))):
            weight.data = part
    return first.detach().as_strided((len(weights) * len(first), first.shape[1]), (first.shape[1], 1))
