"""RIFE's network for frame interpolation (arXiv:2011.06294), versions 4.0 to 4.26, for their published weights.

From coarse to fine, four or five blocks refine the flow from the new frame to both frames, and a mask that mixes the
two warped frames. `Layout` lists what differs between versions. The tensors have the names in the published files.
Their other networks (refinement, teacher) are for training or unused.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from animatediff.media.interpolate.frames import WIDEST, Shapes, frame_of, loaded, tensor_of, warped

SCALES = {4: (8, 4, 2, 1), 5: (16, 8, 4, 2, 1)}  # by number of blocks; each works at the frames' size divided by this
LITE = 24, (32, 16, 8, 4, 1)  # the last block's width in 4.25 lite, and the scales there
FAR = 32  # pixels; if the largest motion in both directions is longer, all blocks of 4.0 and 4.1 work at half the size
MULTIPLE = 64  # of the frames' sides: the coarsest block halves twice more, and `FAR` once
SMALL = 256  # pixels of the longer side below which frames are small, see `zoom_of`
ENCODERS = (("cnn0", "cnn1", "cnn2", "cnn3"), ("0", "2", "4", "6"), ("0", "1"))  # names of the layers, per version


@dataclass(frozen=True)
class Layout:
    """What differs between versions.

    | Version | blocks | body | outside | encoder's layers | carried |
    | 4.0, 4.1 | 4 | PReLU | 5 | | |
    | 4.2 to 4.4 | 4 | LeakyReLU | 5 | | |
    | 4.5, 4.6 | 4 | residual | 5, 6 | | |
    | 4.7 to 4.9 | 4 | residual | 6 | 0, 1 | |
    | 4.10 to 4.12 | 4 | residual | 6 | 0, 2, 4, 6 | |
    | 4.13 to 4.20, 4.24 | 4 | residual | 6 | cnn0 to cnn3 | |
    | 4.21 to 4.23 | 4 | residual | 13 | cnn0 to cnn3 | 8 |
    | 4.25, 4.26 | 5 | residual | 13 | cnn0 to cnn3 | 8 |
    """

    widths: tuple[int, ...] = (192, 128, 96, 64)
    body: str = "PReLU"
    outside: int = 5  # channels that a block returns: four of the flow, one of the mask, and further ones
    encoder: tuple[str, ...] = ()  # names of its layers; if there is one, each block's mask replaces the last one
    encoder_width: int = 0
    features: int = 0  # channels that the encoder returns for a frame
    carried: int = 0  # the further channels, if the next block takes them
    groups: int = 1  # of the convolutions of residual bodies

    @property
    def scales(self) -> tuple[int, ...]:
        return LITE[1] if len(self.widths) == 5 and self.widths[-1] == LITE[0] else SCALES[len(self.widths)]


def layout_of(shapes: Shapes) -> Layout | None:
    """Return the layout that these tensors belong to, or None if one is missing or has another shape."""
    def size(name: str, axis: int = 0) -> int:
        shape = shapes.get(name, ())
        return shape[axis] if len(shape) == 4 else 0

    count = next((i for i in range(7) if not size(f"block{i}.conv0.1.0.weight")), 7)
    if count not in SCALES:
        return None
    widths = tuple(size(f"block{i}.conv0.1.0.weight") for i in range(count))
    encoder = next((names for names in ENCODERS if f"encode.{names[-1]}.weight" in shapes), ())
    inside = size("block0.convblock.0.conv.weight", 1)
    body = "residual" if inside else "PReLU" if "block0.convblock.0.1.weight" in shapes else "LeakyReLU"
    features = size(f"encode.{encoder[-1]}.weight", 1) if encoder else 0
    layout = Layout(
        widths, body, size("block0.lastconv.weight", 1) or size("block0.lastconv.0.weight", 1) // 4,
        encoder, size(f"encode.{encoder[0]}.weight") if encoder else 0, features,
        size("block1.conv0.0.0.weight", 1) - 12 - 2 * features, 2 if inside and inside * 2 == widths[0] else 1)
    if layout.carried not in (0, layout.outside - 5) or any(width % 4 for width in widths):
        return None
    if max(*widths, layout.outside, layout.encoder_width, features) > WIDEST:
        return None
    if not layout.outside or (encoder and not (layout.encoder_width and features)):
        return None
    with torch.device("meta"):
        wanted = IFNet(layout).state_dict()
    return layout if all(tuple(shapes.get(key, ())) == tuple(tensor.shape) for key, tensor in wanted.items()) else None


class Residual(nn.Module):
    def __init__(self, width: int, groups: int):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, 1, 1, groups=groups)
        self.beta = nn.Parameter(torch.ones(1, width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self.conv(x) * self.beta + x, 0.2)


class Block(nn.Module):
    """One block. Takes x [b c h w] and the flow so far [b 4 h w].

    Returns the update of the flow, the mask or its update, and further channels, at x's size.
    """

    def __init__(self, inside: int, width: int, layout: Layout):
        super().__init__()
        def conv(inside: int, outside: int, stride: int = 1) -> nn.Sequential:
            active = nn.PReLU(outside) if layout.body == "PReLU" else nn.LeakyReLU(0.2)
            return nn.Sequential(nn.Conv2d(inside, outside, 3, stride, 1), active)

        residual = layout.body == "residual"
        self.conv0 = nn.Sequential(conv(inside, width // 2, 2), conv(width // 2, width, 2))
        self.convblock = nn.Sequential(
            *(Residual(width, layout.groups) if residual else conv(width, width) for _ in range(8)))
        self.lastconv = nn.Sequential(nn.ConvTranspose2d(width, 4 * layout.outside, 4, 2, 1), nn.PixelShuffle(2)) \
            if residual else nn.ConvTranspose2d(width, layout.outside, 4, 2, 1)
        self.enlarged = 1 if residual else 2
        self.adds = layout.body == "PReLU"  # the block's features to the body's

    def forward(self, x: Tensor, flow: Tensor | None, scale: float) -> tuple[Tensor, Tensor, Tensor]:
        x = _resized(x, 1 / scale)
        if flow is not None:
            x = torch.cat((x, _resized(flow, 1 / scale) / scale), 1)
        features = self.conv0(x)
        body = self.convblock(features)
        scale *= self.enlarged
        found = _resized(self.lastconv(body + features if self.adds else body), scale)
        return found[:, :4] * scale, found[:, 4:5], found[:, 5:]


class IFNet(nn.Module):
    """The network. Takes frames a and b [b 3 h w] in 0…1, returns the frame at `time` between 0 (a) and 1 (b).

    The sides of the frames are multiples of `multiple`.
    """

    def __init__(self, layout: Layout):
        super().__init__()
        self.layout = layout
        insides = [7 + 2 * layout.features, *[12 + 2 * layout.features + layout.carried] * (len(layout.widths) - 1)]
        self.blocks = [Block(inside, width, layout) for inside, width in zip(insides, layout.widths)]
        for i, block in enumerate(self.blocks):
            self.add_module(f"block{i}", block)
        self.encode = _encoder(layout) if layout.encoder else None

    def forward(self, a: Tensor, b: Tensor, time: float, zoom: float = 1) -> Tensor:
        """Return the new frame. zoom: factor by which the frames are enlarged for the flow."""
        scales = [scale / zoom for scale in self.layout.scales]
        at = torch.full_like(a[:, :1], time)
        known = (a, b, self.encode(a), self.encode(b)) if self.encode else (a, b)

        def step(index: int, flow: Tensor, mask: Tensor, carried: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            moved = [warped(x, flow[:, 2 * (i % 2):][:, :2]) for i, x in enumerate(known)]
            x = torch.cat((*moved, at, mask, carried[:, :self.layout.carried]), 1)
            return self.blocks[index](x, flow, scales[index])

        flow, mask, carried = self.blocks[0](torch.cat((*known, at), 1), None, scales[0])
        for index in range(1, len(self.blocks)):
            more = step(index, flow, mask, carried)
            if index == 1 and self.layout.body == "PReLU" and _is_far(more[0]):
                scales = [2 * scale for scale in scales]
                flow, mask, carried = self.blocks[0](torch.cat((*known, at), 1), None, scales[0])
                more = step(index, flow, mask, carried)
            flow, mask, carried = flow + more[0], more[1] if self.encode else mask + more[1], more[2]
        share = torch.sigmoid(mask)
        return warped(a, flow[:, :2]) * share + warped(b, flow[:, 2:]) * (1 - share)

    @property
    def multiple(self) -> int:
        return max(MULTIPLE, 4 * self.layout.scales[0])


def _encoder(layout: Layout) -> nn.Sequential:
    """Return convolutions to half the size and one back, with activations between them if there are more than two."""
    *names, last = layout.encoder
    found = nn.Sequential()
    for i, name in enumerate(names):
        found.add_module(name, nn.Conv2d(layout.encoder_width if i else 3, layout.encoder_width, 3, 1 if i else 2, 1))
        if len(names) > 1:
            found.add_module(f"active{i}", nn.LeakyReLU(0.2))
    found.add_module(last, nn.ConvTranspose2d(layout.encoder_width, layout.features, 4, 2, 1))
    return found


class Rife:
    """Interpolates with RIFE. tensors: weights by the published names."""

    def __init__(self, tensors: Mapping[str, Tensor], device: torch.device | str = "cpu"):
        self.device = torch.device(device)
        layout = layout_of({key: tensor.shape for key, tensor in tensors.items()})
        assert layout is not None, "shapes are checked before a file is loaded"
        self.network = loaded(lambda: IFNet(layout), tensors, self.device)

    @torch.inference_mode()
    def between(self, a: np.ndarray, b: np.ndarray, times: Sequence[float]) -> list[np.ndarray]:
        size = a.shape[:2]
        pair = [tensor_of(frame, self.network.multiple, self.device) for frame in (a, b)]
        return [frame_of(self.network(*pair, t, zoom_of(*size)), *size) for t in times]


def zoom_of(height: int, width: int) -> int:
    """Return the factor by which frames are enlarged for the flow: 2 for small frames, which have small objects."""
    return 2 if max(height, width) < SMALL else 1


def _resized(x: Tensor, factor: float) -> Tensor:
    if factor == 1:
        return x
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False, recompute_scale_factor=False)


def _is_far(flow: Tensor) -> bool:
    return bool(flow[:, :2].abs().max() > FAR and flow[:, 2:].abs().max() > FAR)
