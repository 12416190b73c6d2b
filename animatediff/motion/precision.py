"""In which precision the temporal transformer computes."""
from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def for_norm(x: Tensor) -> Tensor:
    """What a norm is taken of, so that its statistics are in fp32 at least: squares above 255 overflow fp16.

    PyTorch's kernels for fp16 and bf16 accumulate in fp32 on CPUs (measured) and in CUDA (aten's layer_norm_kernel.cu
    and group_norm_kernel.cu); of other devices that is not known, so x is widened there.
    """
    return x if x.device.type in ("cpu", "cuda") or x.element_size() >= 4 else x.float()


def without_autocast(x: Tensor) -> AbstractContextManager:
    """In which operators take tensors as they are: a host's autocast would have norms in fp32, by a copy of x.
    While learning it stays, since whoever trains has chosen it."""
    if torch.is_grad_enabled() or x.device.type not in ("cpu", "cuda"):
        return nullcontext()
    return torch.autocast(x.device.type, enabled=False)


class LayerNorm(nn.LayerNorm):
    """LayerNorm whose statistics are taken in fp32 at least, whatever the weights' dtype."""

    def forward(self, x: Tensor) -> Tensor:
        wide = for_norm(x)
        weight, bias = self.weight.to(wide.dtype), self.bias.to(wide.dtype)
        return F.layer_norm(wide, self.normalized_shape, weight, bias, self.eps).to(x.dtype)
