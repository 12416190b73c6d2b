"""Whether a layer may be replaced by a shortcut that computes the same."""
from __future__ import annotations

from torch import nn


def is_plain(layer: nn.Module) -> bool:
    """It does what its class says: nobody has hooked it or given it a `forward` of its own."""
    return not (layer._forward_hooks or layer._forward_pre_hooks or "forward" in vars(layer))
