"""What the networks share: their weights, frames as tensors, and pictures warped by a flow."""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

Shapes = Mapping[str, Sequence[int]]
WIDEST = 1024  # channels of a layer; published networks have 512 at most
Network = TypeVar("Network", bound=nn.Module)


def loaded(make: Callable[[], Network], tensors: Mapping[str, Tensor], device: torch.device) -> Network:
    """Return a network for inference in fp32. make: builds it. tensors: its weights by name; others are ignored."""
    with torch.device("meta"):
        network = make()
    network.load_state_dict({key: tensors[key].float() for key in network.state_dict()}, assign=True)
    return network.to(device).eval().requires_grad_(False)


def tensor_of(frame: np.ndarray, multiple: int, device: torch.device) -> Tensor:
    """Return a frame, uint8 [h w 3], as a tensor [1 3 h w] in 0…1. The border is repeated up to a `multiple`."""
    x = torch.tensor(frame).to(device).permute(2, 0, 1)[None].float() / 255
    height, width = frame.shape[:2]
    return F.pad(x, (0, -width % multiple, 0, -height % multiple), mode="replicate")


def frame_of(x: Tensor, height: int, width: int) -> np.ndarray:
    """Return a tensor [1 3 h w] in 0…1 as a frame of this size, uint8. Inverse of `tensor_of`."""
    return (x[0, :, :height, :width] * 255).round().clamp(0, 255).byte().permute(1, 2, 0).cpu().numpy()


def warped(picture: Tensor, flow: Tensor) -> Tensor:
    """Return the picture [b c h w] sampled at each pixel plus `flow` [b 2 h w]; beyond it, the border is repeated."""
    height, width = picture.shape[2:]
    x, y = (torch.arange(side, device=flow.device, dtype=flow.dtype) for side in (width, height))
    places = (x + flow[:, 0]) * 2 + 1, (y[:, None] + flow[:, 1]) * 2 + 1
    grid = torch.stack((places[0] / width - 1, places[1] / height - 1), -1)
    return F.grid_sample(picture, grid, padding_mode="border", align_corners=False)
