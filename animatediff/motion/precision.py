"""Precision of the norms in the temporal transformer: statistics in fp32 at least."""
from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_NORMS = {"group": lambda x: F.group_norm(x, 1), "layer": lambda x: F.layer_norm(x, x.shape[1:])}


def for_norm(x: Tensor, norm: str) -> Tensor:
    """Return x in a dtype in which the norm's statistics are in fp32 at least.

    That is x itself if the kernel computes statistics in fp32, else a copy in fp32. norm: "group" or "layer".
    """
    return x if x.element_size() >= 4 or _keeps_fp32(norm, x.device, x.dtype) else x.float()


@cache
@torch.no_grad()
def _keeps_fp32(norm: str, device: torch.device, dtype: torch.dtype) -> bool:
    """Return whether torch's kernel computes a norm's mean and deviation in fp32; tried once per dtype and device.

    CPU kernels do. CUDA's group norm rounded both to the dtype of x for years (aten's group_norm_kernel.cu). The mean
    of the test input is not representable in the dtype, and in fp16 its squares overflow.
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
    """Clear the cached results, so that each kind of norm is tried again."""
    _keeps_fp32.cache_clear()


def without_autocast(x: Tensor) -> AbstractContextManager:
    """Return a context manager that turns autocast off, so that operators keep the dtype of their inputs.

    With a host's autocast, norms would run in fp32 on a copy of x. Autocast stays on while gradients are on, since the
    training code chose it.
    """
    if torch.is_grad_enabled() or x.device.type not in ("cpu", "cuda"):
        return nullcontext()
    return torch.autocast(x.device.type, enabled=False)


class LayerNorm(nn.LayerNorm):
    """LayerNorm whose statistics are in fp32 at least, for weights of any dtype."""

    def forward(self, input: Tensor) -> Tensor:
        wide = for_norm(input, "layer")
        weight, bias = self.weight.to(wide.dtype), self.bias.to(wide.dtype)
        return F.layer_norm(wide, self.normalized_shape, weight, bias, self.eps).to(input.dtype)
