"""The layers of AnimateDiff's temporal transformer (arXiv:2307.04725, section 4.2), with the original names.

After the GroupNorm the spatial positions are independent: the layers process tokens `[(clip position) frame channel]`
and mix along `frame` only. So they can run in tiles of positions. Heads stay a dimension of their own: merged into the
batch they would exceed the CUDA grid limit of 65,535 at 512x512 with guidance.
"""

from __future__ import annotations

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from animatediff.motion.in_windows import InWindows
from animatediff.motion.module_list import ModuleList
from animatediff.motion.plain import is_plain
from animatediff.motion.precision import LayerNorm, for_norm
from animatediff.motion.scale import Scale
from animatediff.motion.side_by_side import side_by_side

GROUPS, GROUP_EPS = 32, 1e-6
MOST_POSITIONS = 32_768  # half of the CUDA grid limit in one dimension
MOST_TOKENS = 65_536  # of a feed-forward at a time; its intermediates are eight times as wide


def sinusoids(frames: int, channels: int) -> Tensor:
    """Return the positional encoding [1 frames channels] of "Attention is all you need", section 3.5.

    sin and cos alternate. The result is always on the CPU, since AnimateLCM's encoding is in no file and the default
    device is meta while a module is loaded.
    """
    place = torch.arange(frames, dtype=torch.float32, device="cpu")[:, None]
    even = torch.arange(0, channels, 2, dtype=torch.float32, device="cpu")
    rate = torch.exp(even * (-math.log(10_000.0) / channels))
    return torch.stack((torch.sin(place * rate), torch.cos(place * rate)), dim=-1).reshape(1, frames, channels)


class PositionalEncoding(nn.Module):
    """Adds one vector per frame. Positions count from the first frame of the context window."""

    pe: Tensor

    def __init__(self, frames: int, channels: int, stored: bool):
        super().__init__()
        is_meta = stored and torch.empty(0).is_meta  # a skeleton; its encoding is loaded from a file
        pe = torch.empty(1, frames, channels) if is_meta else sinusoids(frames, channels)
        self.register_buffer("pe", pe, persistent=stored)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.pe[:, : x.shape[1]].to(x)


class TemporalAttention(nn.Module):
    """Self-attention along frames; maps tokens [b frame channel] to the same shape."""

    def __init__(self, channels: int, heads: int, frames: int, stored: bool):
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(channels, channels, bias=False)
        self.to_v = nn.Linear(channels, channels, bias=False)
        self.to_out = ModuleList([nn.Linear(channels, channels)])
        self.pos_encoder = PositionalEncoding(frames, channels, stored)

    def forward(self, x: Tensor, scale: Scale = 1.0) -> Tensor:
        """Return the attention's result for x [b frame channel]. scale: factor of the keys, a number or [b frame]."""
        return self.to_out[0](self.attend(*self._projected(self.pos_encoder(x)), scale))

    def _projected(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values; by one product unless gradients are on or a layer has hooks."""
        layers = self.to_q, self.to_k, self.to_v
        if torch.is_grad_enabled() or not all(map(is_plain, layers)):
            return self.to_q(x), self.to_k(x), self.to_v(x)
        q, k, v = F.linear(x, side_by_side([layer.weight for layer in layers])).chunk(3, -1)
        return q, k, v

    def attend(self, q: Tensor, k: Tensor, v: Tensor, scale: Scale = 1.0) -> Tensor:
        """Return the attention of queries, keys and values [b frame channel] -> [b frame channel]."""
        q, k, v = (each.unflatten(-1, (self.heads, -1)).transpose(1, 2) for each in (q, k, v))
        if isinstance(scale, Tensor):
            k = k * scale[:, None, :, None]
        elif scale != 1:
            k = k * scale
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class GatedLinear(nn.Module):
    """GEGLU (arXiv:2002.05202): one half of a linear map, multiplied by the GELU of the other half."""

    def __init__(self, channels: int, inner: int):
        super().__init__()
        self.proj = nn.Linear(channels, 2 * inner)

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() or not is_plain(self.proj):
            value, gate = self.proj(x).chunk(2, dim=-1)
            return value * F.gelu(gate)
        # Two products: both halves are contiguous, and less memory is held at once.
        (value_weight, gate_weight), (value_bias, gate_bias) = self.proj.weight.chunk(2), self.proj.bias.chunk(2)
        gate = F.gelu(F.linear(x, gate_weight, gate_bias))
        return F.linear(x, value_weight, value_bias).mul_(gate)


class FeedForward(nn.Module):
    """GEGLU, then a linear map back. Index 1 of `net` is the place of the original's dropout."""

    def __init__(self, channels: int):
        super().__init__()
        self.net = nn.ModuleList(
            [GatedLinear(channels, 4 * channels), nn.Identity(), nn.Linear(4 * channels, channels)]
        )

    @property
    def up(self) -> GatedLinear:
        return cast(GatedLinear, self.net[0])

    @property
    def down(self) -> nn.Linear:
        return cast(nn.Linear, self.net[2])

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.up(x))


class TransformerBlock(nn.Module):
    """Two temporal self-attentions and a feed-forward, each after a LayerNorm and with a residual."""

    def __init__(self, channels: int, heads: int, frames: int, stored: bool):
        super().__init__()
        self.attention_blocks = ModuleList([TemporalAttention(channels, heads, frames, stored) for _ in range(2)])
        self.norms = ModuleList([LayerNorm(channels) for _ in range(2)])
        self.ff = FeedForward(channels)
        self.ff_norm = LayerNorm(channels)

    def forward(self, x: Tensor, scale: Scale = 1.0, in_windows: InWindows | None = None) -> Tensor:
        x = in_windows(self._attended, x, scale) if in_windows else self._attended(x, scale)
        size = max(1, MOST_TOKENS // x.shape[1])
        if len(x) <= size or torch.is_grad_enabled():
            return self.ff(self.ff_norm(x)) + x
        out = torch.empty_like(x)
        for part, result in zip(x.split(size), out.split(size)):
            torch.add(self.ff(self.ff_norm(part)), part, out=result)
        return out

    def _attended(self, x: Tensor, scale: Scale) -> Tensor:
        for attention, norm in zip(self.attention_blocks, self.norms):
            x = attention(norm(x), scale) + x
        return x


class TemporalLayers(nn.Module):
    """The temporal layers of one site of the UNet, with the original names."""

    most_positions = MOST_POSITIONS  # positions that are processed at a time

    def __init__(self, channels: int, heads: int, frames: int, stored: bool, over_frames: bool):
        super().__init__()
        self.over_frames, self.max_frames = over_frames, frames
        self.norm = nn.GroupNorm(GROUPS, channels, eps=GROUP_EPS)
        self.proj_in = nn.Linear(channels, channels)
        self.transformer_blocks = ModuleList([TransformerBlock(channels, heads, frames, stored)])
        self.proj_out = nn.Linear(channels, channels)

    @property
    def heads(self) -> int:
        return self.transformer_blocks[0].attention_blocks[0].heads

    def normed(self, x: Tensor, frames: int, in_windows: InWindows | None = None) -> Tensor:
        """Return the GroupNorm of x as [clip frame c (h w)], in the more precise dtype of x and the weights.

        Statistics are over C/32 x H x W of one frame, or of all frames of a clip if `over_frames` is set.
        """
        n, c = x.shape[:2]
        x = for_norm(x.to(torch.promote_types(x.dtype, self.norm.weight.dtype)), "group")
        weight, bias = self.norm.weight.to(x.dtype), self.norm.bias.to(x.dtype)
        if self.over_frames:

            def over_frames(clips: Tensor) -> Tensor:
                normed = F.group_norm(clips.transpose(1, 2), self.norm.num_groups, weight, bias, self.norm.eps)
                return normed.transpose(1, 2)

            clips = x.reshape(n // frames, frames, c, -1)
            return in_windows(over_frames, clips) if in_windows else over_frames(clips)
        normed = F.group_norm(x, self.norm.num_groups, weight, bias, self.norm.eps)
        return normed.reshape(n // frames, frames, c, -1)
