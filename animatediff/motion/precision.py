"""In which precision the temporal transformer computes."""
from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_NORMS = {"group": lambda x: F.group_norm(x, 1), "layer": lambda x: F.layer_norm(x, x.shape[1:])}


def for_norm(x: Tensor, norm: str) -> Tensor:
    """What a "group" or "layer" norm is taken of, so that its statistics are in fp32 at least: x itself where the
    kernel sees to that, a copy in fp32 elsewhere."""
    return x if x.element_size() >= 4 or _keeps_fp32(norm, x.device, x.dtype) else x.float()


@cache
@torch.no_grad()
def _keeps_fp32(norm: str, device: torch.device, dtype: torch.dtype) -> bool:
    """Whether this torch's kernel has a norm's mean and deviation in fp32, which is tried once. CPU kernels do; CUDA's
    for group norms rounded both to x's dtype for years (aten's group_norm_kernel.cu).

    The numbers' mean lies between two of the dtype, and in fp16 their squares overflow.
    """
    steps = torch.arange(8.0).repeat(64)
    truth = (steps.double() - 3.5) / 5.25**0.5
    x = (steps + 1 / torch.finfo(dtype).eps).to(device, dtype).view(1, 64, 8)
    try:
        with without_autocast(x):
            found = _NORMS[norm](x).double().cpu().flatten()
        return (found - truth).abs().max().item() < 2 * torch.finfo(dtype).eps
    except RuntimeError:  # NotImplementedError is one
        return False


def forget_trials() -> None:
    """The next norm of each kind is tried again."""
    _keeps_fp32.cache_clear()


def without_autocast(x: Tensor) -> AbstractContextManager:
    """In which operators take tensors as they are: a host's autocast would have norms in fp32, by a copy of x.
    While learning it stays, since whoever trains has chosen it."""
    if torch.is_grad_enabled() or x.device.type not in ("cpu", "cuda"):
        return nullcontext()
    return torch.autocast(x.device.type, enabled=False)


class LayerNorm(nn.LayerNorm):
    """LayerNorm whose statistics are taken in fp32 at least, whatever the weights' dtype."""

    def forward(self, input: Tensor) -> Tensor:
        wide = for_norm(input, "layer")
        weight, bias = self.weight.to(wide.dtype), self.bias.to(wide.dtype)
        return F.layer_norm(wide, self.normalized_shape, weight, bias, self.eps).to(input.dtype)
