"""Move a motion module to the host's device for the length of a pass."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from animatediff.motion.module import MotionModule


@contextmanager
def on_device(module: MotionModule, device: torch.device | str, dtype: torch.dtype) -> Iterator[MotionModule]:
    """Context manager in which the module's weights are on `device` in `dtype`.

    On exit the module has its original tensors again. Nothing is copied back, since copying from a GPU takes four times
    as long as copying to it.
    """
    tensors = [*module.parameters(), *module.buffers()]
    before = [(tensor, tensor.data) for tensor in tensors]
    try:
        for tensor in tensors:
            if tensor.device != torch.device(device) or tensor.dtype != dtype:
                tensor.data = tensor.data.to(device, dtype)
        yield module
    finally:
        module.release()
        for tensor, data in before:
            if tensor.device != data.device or tensor.dtype != data.dtype:
                tensor.data = data
