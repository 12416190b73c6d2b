"""Check whether a layer may be replaced by a faster equivalent."""
from __future__ import annotations

from torch import nn


def is_plain(layer: nn.Module) -> bool:
    """Return whether the layer has no forward hooks and no `forward` of its own, so that it acts as its class does."""
    return not (layer._forward_hooks or layer._forward_pre_hooks or "forward" in vars(layer))
