"""RIFE's network for frame interpolation (arXiv:2011.06294), version 4.0, for its published weights.

From coarse to fine, four blocks refine the flow from the new frame to both frames, and a mask that mixes the two warped
frames. The tensors have the names in the published file. Its other networks (refinement, teacher) are for training or
unused.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

BLOCKS = 4
SCALES = (8, 4, 2, 1)  # each block works at the frames' size divided by this
FAR = 32  # pixels; if the largest motion in both directions is longer, all blocks work at half the size
MULTIPLE = 64  # of the frames' sides: the coarsest block halves twice more, and `FAR` once
WIDTHS = (192, 128, 96, 64)
SMALL = 256  # pixels of the longer side below which frames are small, see `zoom_of`


def _conv(inside: int, outside: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inside, outside, 3, stride, 1), nn.PReLU(outside))


class Block(nn.Module):
    """One block. Takes x [b c h w] and the flow so far [b 4 h w], returns updates of flow and mask at x's size."""

    def __init__(self, inside: int, width: int):
        super().__init__()
        self.conv0 = nn.Sequential(_conv(inside, width // 2, 2), _conv(width // 2, width, 2))
        self.convblock = nn.Sequential(*(_conv(width, width) for _ in range(8)))
        self.lastconv = nn.ConvTranspose2d(width, 5, 4, 2, 1)

    def forward(self, x: Tensor, flow: Tensor | None, scale: float) -> tuple[Tensor, Tensor]:
        x = _resized(x, 1 / scale)
        if flow is not None:
            x = torch.cat((x, _resized(flow, 1 / scale) / scale), 1)
        features = self.conv0(x)
        found = _resized(self.lastconv(self.convblock(features) + features), 2 * scale)
        return found[:, :4] * (2 * scale), found[:, 4:]


class IFNet(nn.Module):
    """The network. Takes frames a and b [b 3 h w] in 0…1, returns the frame at `time` between 0 (a) and 1 (b).

    The sides of the frames are multiples of MULTIPLE.
    """

    def __init__(self, widths: Sequence[int] = WIDTHS):
        super().__init__()
        self.block0 = Block(7, widths[0])
        self.block1, self.block2, self.block3 = (Block(12, width) for width in widths[1:])

    def forward(self, a: Tensor, b: Tensor, time: float, zoom: float = 1) -> Tensor:
        """Return the new frame. zoom: factor by which the frames are enlarged for the flow."""
        scales = [scale / zoom for scale in SCALES]
        at = torch.full_like(a[:, :1], time)

        def step(index: int, flow: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
            x = torch.cat((warped(a, flow[:, :2]), warped(b, flow[:, 2:]), at, mask), 1)
            return self.finer[index - 1](x, flow, scales[index])

        flow, mask = self.block0(torch.cat((a, b, at), 1), None, scales[0])
        more = step(1, flow, mask)
        if _is_far(more[0]):
            scales = [2 * scale for scale in scales]
            flow, mask = self.block0(torch.cat((a, b, at), 1), None, scales[0])
            more = step(1, flow, mask)
        flow, mask = flow + more[0], mask + more[1]
        for index in (2, 3):
            more = step(index, flow, mask)
            flow, mask = flow + more[0], mask + more[1]
        share = torch.sigmoid(mask)
        return warped(a, flow[:, :2]) * share + warped(b, flow[:, 2:]) * (1 - share)

    @property
    def finer(self) -> tuple[Block, Block, Block]:
        return self.block1, self.block2, self.block3


def warped(picture: Tensor, flow: Tensor) -> Tensor:
    """Return the picture [b c h w] sampled at each pixel plus `flow` [b 2 h w]; beyond it, the border is repeated."""
    height, width = picture.shape[2:]
    x, y = (torch.linspace(-1, 1, side, device=flow.device, dtype=flow.dtype) for side in (width, height))
    grid = torch.stack((x + flow[:, 0] / ((width - 1) / 2), y[:, None] + flow[:, 1] / ((height - 1) / 2)), -1)
    return F.grid_sample(picture, grid, padding_mode="border", align_corners=True)


class Rife:
    """Interpolates with RIFE. tensors: weights by the published names."""

    def __init__(self, tensors: Mapping[str, Tensor], device: torch.device | str = "cpu"):
        self.device = torch.device(device)
        with torch.device("meta"):
            self.network = IFNet([tensors[f"block{i}.lastconv.weight"].shape[0] for i in range(BLOCKS)])
        state = {key: tensors[key].float() for key in self.network.state_dict()}
        self.network.load_state_dict(state, assign=True)
        self.network.to(self.device).eval().requires_grad_(False)

    @torch.inference_mode()
    def between(self, a: np.ndarray, b: np.ndarray, times: Sequence[float]) -> list[np.ndarray]:
        height, width = a.shape[:2]
        pair = [self._tensor(frame) for frame in (a, b)]
        zoom = zoom_of(height, width)
        found = (self.network(*pair, t, zoom)[0, :, :height, :width] for t in times)
        return [(x * 255).round().clamp(0, 255).byte().permute(1, 2, 0).cpu().numpy() for x in found]

    def _tensor(self, frame: np.ndarray) -> Tensor:
        x = torch.tensor(frame).to(self.device).permute(2, 0, 1)[None].float() / 255
        height, width = frame.shape[:2]
        return F.pad(x, (0, -width % MULTIPLE, 0, -height % MULTIPLE), mode="replicate")


def fits(shapes: Mapping[str, Sequence[int]]) -> bool:
    """Return whether these shapes contain all tensors of the network in matching shapes."""
    own = [shapes.get(f"block{i}.lastconv.weight") for i in range(BLOCKS)]
    if not all(shape is not None and len(shape) == 4 for shape in own):
        return False
    with torch.device("meta"):
        wanted = IFNet([shape[0] for shape in own if shape is not None]).state_dict()
    return all(tuple(shapes.get(key, ())) == tuple(tensor.shape) for key, tensor in wanted.items())


def zoom_of(height: int, width: int) -> int:
    """Return the factor by which frames are enlarged for the flow: 2 for small frames, which have small objects."""
    return 2 if max(height, width) < SMALL else 1


def _resized(x: Tensor, factor: float) -> Tensor:
    if factor == 1:
        return x
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False, recompute_scale_factor=False)


def _is_far(flow: Tensor) -> bool:
    return bool(flow[:, :2].abs().max() > FAR and flow[:, 2:].abs().max() > FAR)
