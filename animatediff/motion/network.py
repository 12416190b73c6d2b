"""The temporal transformer of AnimateDiff (arXiv:2307.04725, section 4.2), its parameters under the original names.

After its GroupNorm every spatial position is on its own: the network sees tokens `[(clip position) frame channel]`
and mixes along `frame` only. That is why it may be run in tiles of positions, and why heads stay a dimension of
their own: merged into the batch they pass the 65,535 limit of a CUDA grid at 512x512 with guidance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from animatediff.errors import ModelError
from animatediff.motion.choice import fused
from animatediff.motion.packed import PackedTransformer, packed
from animatediff.motion.plain import is_plain
from animatediff.motion.precision import LayerNorm, for_norm, without_autocast
from animatediff.motion.side_by_side import side_by_side

if TYPE_CHECKING:
    from animatediff.layout import Group
    from animatediff.motion.families import Family
    from animatediff.motion.fused import FusedTransformer
    from animatediff.motion.in_windows import InWindows

GROUPS, GROUP_EPS = 32, 1e-6
MOST_POSITIONS = 32_768  # half of what a CUDA grid takes in one dimension
MOST_TOKENS = 65_536  # in a feed-forward, whose intermediates are eight times as wide
TILED = ("cpu",)  # devices where the transformer runs in tiles
CPU_TILE_TOKENS = 1_024  # 64 positions of 16 frames: the feed-forward's intermediate stays in the cache
Scale = float | Tensor


def sinusoids(frames: int, channels: int) -> Tensor:
    """Positional encoding [1 frames channels] of "Attention is all you need", section 3.5 (sin and cos alternate).

    On the CPU even where the default device is another (meta, while loading): AnimateLCM's is in no file.
    """
    place = torch.arange(frames, dtype=torch.float32, device="cpu")[:, None]
    even = torch.arange(0, channels, 2, dtype=torch.float32, device="cpu")
    rate = torch.exp(even * (-math.log(10_000.0) / channels))
    return torch.stack((torch.sin(place * rate), torch.cos(place * rate)), dim=-1).reshape(1, frames, channels)


class PositionalEncoding(nn.Module):
    """Adds one vector per frame, counted from the window's first frame."""

    def __init__(self, frames: int, channels: int, stored: bool):
        super().__init__()
        self.register_buffer("pe", sinusoids(frames, channels), persistent=stored)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.pe[:, : x.shape[1]].to(x)


class TemporalAttention(nn.Module):
    """Self-attention along frames, tokens [b frame channel] -> the same."""

    def __init__(self, channels: int, heads: int, frames: int, stored: bool):
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(channels, channels, bias=False)
        self.to_v = nn.Linear(channels, channels, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])
        self.pos_encoder = PositionalEncoding(frames, channels, stored)

    def forward(self, x: Tensor, scale: Scale = 1.0) -> Tensor:
        """`scale`: of the keys, a number or [b frame]."""
        return self.to_out[0](self.attend(*self._projected(self.pos_encoder(x)), scale))

    def _projected(self, x: Tensor) -> tuple[Tensor, ...]:
        """Queries, keys and values, by one product where nobody learns or looks into one of the layers."""
        layers = self.to_q, self.to_k, self.to_v
        if torch.is_grad_enabled() or not all(map(is_plain, layers)):
            return tuple(layer(x) for layer in layers)
        return F.linear(x, side_by_side([layer.weight for layer in layers])).chunk(3, -1)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, scale: Scale = 1.0) -> Tensor:
        """Queries, keys and values [b frame channel] -> [b frame channel]."""
        q, k, v = (each.unflatten(-1, (self.heads, -1)).transpose(1, 2) for each in (q, k, v))
        if isinstance(scale, Tensor):
            k = k * scale[:, None, :, None]
        elif scale != 1:
            k = k * scale
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class GatedLinear(nn.Module):
    """GEGLU (arXiv:2002.05202): one half of a linear map, gated by the GELU of the other."""

    def __init__(self, channels: int, inner: int):
        super().__init__()
        self.proj = nn.Linear(channels, 2 * inner)

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() or not is_plain(self.proj):
            value, gate = self.proj(x).chunk(2, dim=-1)
            return value * F.gelu(gate)
        # As two products, so that neither half lies in rows of both, and less is held at once.
        (of_value, of_gate), (value_bias, gate_bias) = self.proj.weight.chunk(2), self.proj.bias.chunk(2)
        gate = F.gelu(F.linear(x, of_gate, gate_bias))
        return F.linear(x, of_value, value_bias).mul_(gate)


class FeedForward(nn.Module):
    """GEGLU and a linear map back; index 1 of `net` is where the original keeps its dropout."""

    def __init__(self, channels: int):
        super().__init__()
        self.net = nn.ModuleList(
            [GatedLinear(channels, 4 * channels), nn.Identity(), nn.Linear(4 * channels, channels)]
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net[2](self.net[0](x))


class TransformerBlock(nn.Module):
    """Two temporal self-attentions and a feed-forward, each behind a LayerNorm and beside a residual."""

    def __init__(self, channels: int, heads: int, frames: int, stored: bool):
        super().__init__()
        self.attention_blocks = nn.ModuleList([TemporalAttention(channels, heads, frames, stored) for _ in range(2)])
        self.norms = nn.ModuleList([LayerNorm(channels) for _ in range(2)])
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


class TemporalTransformer(nn.Module):
    """What sits at one place of the UNet: x [(clip frame) c h w] -> x + change, same shape and dtype."""

    most_positions = MOST_POSITIONS  # at a time

    def __init__(self, channels: int, heads: int, frames: int, stored: bool, over_frames: bool):
        super().__init__()
        self.over_frames, self.max_frames = over_frames, frames
        self.norm = nn.GroupNorm(GROUPS, channels, eps=GROUP_EPS)
        self.proj_in = nn.Linear(channels, channels)
        self.transformer_blocks = nn.ModuleList([TransformerBlock(channels, heads, frames, stored)])
        self.proj_out = nn.Linear(channels, channels)
        self._packed: PackedTransformer | None = None
        self._fused: FusedTransformer | None = None

    @property
    def heads(self) -> int:
        return self.transformer_blocks[0].attention_blocks[0].heads

    def forward(self, x: Tensor, frames: int, scale: Scale = 1.0, effect: Scale = 1.0,
                in_windows: InWindows | None = None) -> Tensor:
        """`scale` of the keys and `effect`, the share of the change that is taken: numbers or [frame h w]."""
        scale, effect = (each.flatten(1).to(x.device) if isinstance(each, Tensor) else each for each in (scale, effect))
        with without_autocast(x):
            self._fused = fused(self, x, frames, in_windows, self._fused)
            return (self._fused or self.plainly)(x, frames, scale, effect, in_windows)

    def plainly(self, x: Tensor, frames: int, scale: Scale = 1.0, effect: Scale = 1.0,
                in_windows: InWindows | None = None) -> Tensor:
        """By torch's own operators; `scale` and `effect` are numbers or [frame h·w]."""
        n, c, h, w = x.shape
        normed = self.normed(x, frames, in_windows)
        if x.device.type in TILED and not torch.is_grad_enabled():
            return self._in_tiles(x.reshape(normed.shape), normed, scale, effect, in_windows).view(n, c, h, w)
        tokens = normed.permute(0, 3, 1, 2).to(self.proj_in.weight.dtype).reshape(-1, frames, c)
        del normed
        if isinstance(scale, Tensor):
            scale = scale.T.repeat(n // frames, 1).to(tokens)
        change = self._in_parts(tokens, scale, in_windows)
        change = change.view(n // frames, h * w, frames, c).permute(0, 2, 3, 1).to(x.dtype)
        if isinstance(effect, Tensor):
            change = change * effect[:, None].to(change)
        elif effect != 1:
            change = change * effect
        return (x.reshape(change.shape) + change).reshape(x.shape)

    def release(self) -> None:
        """Give back what was made of the weights; the next call makes it anew."""
        self._packed = self._fused = None

    def __getstate__(self) -> dict:
        """For copies and files, which are without what was made of the weights."""
        return self.__dict__ | {"_packed": None, "_fused": None}

    def normed(self, x: Tensor, frames: int, in_windows: InWindows | None = None) -> Tensor:
        """GroupNorm over C/32 x H x W of a frame or of all of a clip's -> [clip frame c (h w)].

        In the more precise of x's and the weights' dtype."""
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

    def _tokens(self, tokens: Tensor, scale: Scale = 1.0, in_windows: InWindows | None = None) -> Tensor:
        x = self.proj_in(tokens)
        for block in self.transformer_blocks:
            x = block(x, scale, in_windows)
        return self.proj_out(x)

    def _in_parts(self, tokens: Tensor, scale: Scale, in_windows: InWindows | None = None) -> Tensor:
        """`_tokens` of [position frame c], below the grid limit."""
        if tokens.shape[0] <= self.most_positions:
            return self._tokens(tokens, scale, in_windows)
        parts = tokens.split(self.most_positions)
        scales = scale.split(self.most_positions) if isinstance(scale, Tensor) else [scale] * len(parts)
        return torch.cat([self._tokens(part, of_part, in_windows) for part, of_part in zip(parts, scales)])

    def _in_tiles(self, x: Tensor, normed: Tensor, scale: Scale, effect: Scale, in_windows: InWindows | None = None
                  ) -> Tensor:
        """x and its norm [clip frame c place] -> x + change, in tiles of places whose intermediates stay in the cache.

        Layouts change by transposed copies of matrices [frame·c, place],
        which are several times as fast as permuted ones.
        """
        clips, frames, c, places = x.shape
        out = torch.empty_like(x, memory_format=torch.contiguous_format)
        self._packed = packed(self, self._packed)
        work = self._packed or self._tokens
        size = max(1, CPU_TILE_TOKENS // frames)
        for seen, given, told in zip(normed.flatten(1, 2), x.flatten(1, 2), out.flatten(1, 2)):
            for begin in range(0, places, size):
                tile = slice(begin, begin + size)
                tokens = seen[:, tile].to(self.proj_in.weight.dtype).contiguous().t().contiguous().view(-1, frames, c)
                of_keys = scale[:, tile].T.to(tokens) if isinstance(scale, Tensor) else scale
                change = work(tokens, of_keys, in_windows).flatten(1).t().contiguous().to(x.dtype)
                if isinstance(effect, Tensor):
                    change = (change.view(frames, c, -1) * effect[:, None, tile].to(change)).view(change.shape)
                elif effect != 1:
                    change = change * effect
                torch.add(given[:, tile], change, out=told[:, tile])
        return out


class Site(nn.Module):
    """One entry of `motion_modules`; the extra level is the original naming's."""

    def __init__(self, *args, **kwargs):
        super().__init__()
        self.temporal_transformer = TemporalTransformer(*args, **kwargs)

    def forward(self, x: Tensor, frames: int, scale: Scale = 1.0, effect: Scale = 1.0,
                in_windows: InWindows | None = None) -> Tensor:
        return self.temporal_transformer(x, frames, scale, effect, in_windows)


class Level(nn.Module):
    """One block of the UNet: its sites in order."""

    def __init__(self, sites: list[Site]):
        super().__init__()
        self.motion_modules = nn.ModuleList(sites)


class MotionModule(nn.Module):
    """All temporal transformers of one motion module; `state_dict()` has exactly the original AnimateDiff keys.

    `widths` are the channels per level of the UNet, outermost first; `max_frames` is the longest window,
    `name` what messages call it. While an injected site runs, `window` holds the numbers of the frames that it sees.
    """

    window: Group = ()

    def __init__(self, family: Family, widths: tuple[int, ...], *, max_frames: int, heads: int = 8, name: str = ""):
        super().__init__()
        self.family, self.widths, self.max_frames, self.heads = family, tuple(widths), max_frames, heads
        self.name = name or family.name
        for width in widths:
            if width % heads or width % GROUPS:
                raise ModelError(
                    f"a width of {width} channels is no multiple of {GROUPS} (norm groups) and {heads} (heads)",
                    where=self.name,
                )

        def level(width: int, sites: int) -> Level:
            common = dict(stored=family.stores_pe, over_frames=family.module_norm_over_frames)
            return Level([Site(width, heads, max_frames, **common) for _ in range(sites)])

        self.down_blocks = nn.ModuleList([level(width, 2) for width in widths])
        self.up_blocks = nn.ModuleList([level(width, 3) for width in reversed(widths)])
        if family.has_mid:
            self.mid_block = level(widths[-1], 1)

    def sites(self) -> Mapping[str, Site]:
        """Every site under its name, e.g. `down_blocks.0.motion_modules.1`."""
        return {name: site for name, site in self.named_modules() if isinstance(site, Site)}

    def release(self) -> None:
        """Give back what sites keep from call to call; the next call makes it anew."""
        for site in self.sites().values():
            site.temporal_transformer.release()

    def check_frames(self, frames: int) -> None:
        """Refuse a window that is longer than the positional encoding."""
        if frames > self.max_frames:
            raise ModelError(
                f"a window of {frames} frames is longer than the {self.max_frames} that {self.name} has positions for",
                remedy=f"Set the context length to {self.max_frames} or less.",
            )
