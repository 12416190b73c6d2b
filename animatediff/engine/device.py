"""Device and dtype of a run."""
from __future__ import annotations

import torch

from animatediff.errors import ModelError

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def pick_device(name: str) -> torch.device:
    """Return the device. "auto" is a GPU if there is one. Raise ModelError if the device is not available."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, there in available.items() if there)
    kind, _, number = name.partition(":")
    if not available[kind] or (kind == "cuda" and number and int(number) >= torch.cuda.device_count()):
        raise ModelError(f"this machine has no {name}, or this torch was built without it", where="device",
                         remedy="Use auto or cpu")
    return torch.device(name)


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """Return the dtype. "auto" is fp16 on CUDA and fp32 elsewhere.

    CPUs without bf16 units are slower with bf16, and MPS is reliable only with fp32.
    """
    return DTYPES[name] if name != "auto" else torch.float16 if device.type == "cuda" else torch.float32
