"""A motion module on the host's device for the length of a pass."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from animatediff.motion.module import MotionModule


@contextmanager
def on_device(module: MotionModule, device: torch.device | str, dtype: torch.dtype) -> Iterator[MotionModule]:
    """For the length of the block the weights lie on `device` in `dtype`; afterwards they are the tensors of before.

    Nothing is copied back: from a GPU that takes four times as long as the way there.
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
