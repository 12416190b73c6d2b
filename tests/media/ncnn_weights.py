"""Reads ncnn's weight files as the tensors of Real-ESRGAN's small network, SRVGGNetCompact.

The .param file names the layers. The .bin file has, for each convolution, a tag, its weights (16-bit if the tag says
so, padded to 4 bytes) and its bias, and for each PReLU its slopes.
"""
from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

HALF = 0x01306B47  # the tag of 16-bit weights


def compact(param: Path) -> dict[str, torch.Tensor]:
    """Return the tensors by the network's names in PyTorch."""
    data, at, number = param.with_suffix(".bin").read_bytes(), 0, 0
    tensors: dict[str, torch.Tensor] = {}

    def take(count: int, kind: str) -> torch.Tensor:
        nonlocal at
        found = np.frombuffer(data, kind, count, at).astype(np.float32)
        at += -(-found.size * np.dtype(kind).itemsize // 4) * 4
        return torch.from_numpy(found)

    inside = 3
    for line in param.read_text().splitlines()[2:]:
        layer, _, inputs, outputs, *words = line.split()
        about = dict(word.split("=") for word in words[int(inputs) + int(outputs):])
        if layer == "Convolution":
            assert (about["1"], about["4"], about["5"]) == ("3", "1", "1"), "3×3, padded by 1, with a bias"
            tag = np.frombuffer(data, "<u4", 1, at)[0]
            at += 4
            outside = int(about["0"])
            weights = take(int(about["6"]), "<f2" if tag == HALF else "<f4")
            tensors[f"body.{number}.weight"] = weights.reshape(outside, inside, 3, 3)
            tensors[f"body.{number}.bias"] = take(outside, "<f4")
            inside, number = outside, number + 1
        elif layer == "PReLU":
            tensors[f"body.{number}.weight"] = take(int(about["0"]), "<f4")
            number += 1
    assert at == len(data)
    return tensors
