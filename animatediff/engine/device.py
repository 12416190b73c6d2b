"""Where a run computes, and in which precision."""
from __future__ import annotations

import torch

from animatediff.errors import ModelError

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def pick_device(name: str) -> torch.device:
    """"auto" takes a GPU if there is one."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, there in available.items() if there)
    kind, _, number = name.partition(":")
    if not available[kind] or (kind == "cuda" and number and int(number) >= torch.cuda.device_count()):
        raise ModelError(f"this machine has no {name}, or this torch was built without it", where="device",
                         remedy="Use auto or cpu")
    return torch.device(name)


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """"auto" is fp16 on CUDA; CPUs without bf16 units are slower with it, and MPS is safe with fp32 only."""
    return DTYPES[name] if name != "auto" else torch.float16 if device.type == "cuda" else torch.float32
