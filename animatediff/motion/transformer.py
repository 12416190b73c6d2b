"""The temporal transformer of one site. It chooses the fastest implementation for each call."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from animatediff.motion.choice import fused
from animatediff.motion.in_windows import InWindows
from animatediff.motion.layers import TemporalLayers
from animatediff.motion.packed import PackedTransformer, packed
from animatediff.motion.precision import without_autocast
from animatediff.motion.scale import Scale

if TYPE_CHECKING:
    from animatediff.motion.fused import FusedTransformer

TILED = ("cpu",)  # devices on which the transformer runs in tiles
CPU_TILE_TOKENS = 1_024  # 64 positions of 16 frames, so that the feed-forward's intermediates stay in the cache


class TemporalTransformer(TemporalLayers):
    """Returns x + change for x [(clip frame) c h w], in the same shape and dtype."""

    _packed: PackedTransformer | None = None
    _fused: FusedTransformer | None = None

    def forward(self, x: Tensor, frames: int, scale: Scale = 1.0, effect: Scale = 1.0,
                in_windows: InWindows | None = None) -> Tensor:
        """Return x + effect · change. scale: factor of the keys. Both are numbers or [frame h w]."""
        scale, effect = (each.flatten(1).to(x.device) if isinstance(each, Tensor) else each for each in (scale, effect))
        with without_autocast(x):
            self._fused = fused(self, x, frames, in_windows, self._fused, self.plainly)
            return (self._fused or self.plainly)(x, frames, scale, effect, in_windows)

    def plainly(self, x: Tensor, frames: int, scale: Scale = 1.0, effect: Scale = 1.0,
                in_windows: InWindows | None = None) -> Tensor:
        """Compute the same with torch's own operators. scale, effect: numbers or [frame h·w]."""
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

    @property
    def packed(self) -> PackedTransformer | None:
        """The packed weights of the last call, if it used them."""
        return self._packed

    @property
    def fused(self) -> FusedTransformer | None:
        """The Triton implementation of the last call, if it used one."""
        return self._fused

    def release(self) -> None:
        """Free the data derived from the weights; the next call computes it again."""
        self._packed = self._fused = None

    def __getstate__(self) -> dict:
        """Return the state for copy and pickle, without the data derived from the weights."""
        return self.__dict__ | {"_packed": None, "_fused": None}

    def on_tokens(self, tokens: Tensor, scale: Scale = 1.0, in_windows: InWindows | None = None) -> Tensor:
        """Return the change of normalised tokens [position frame c]. scale: a number or [position frame]."""
        x = self.proj_in(tokens)
        for block in self.transformer_blocks:
            x = block(x, scale, in_windows)
        return self.proj_out(x)

    def _in_parts(self, tokens: Tensor, scale: Scale, in_windows: InWindows | None = None) -> Tensor:
        """Return `on_tokens` of tokens [position frame c], computed in parts below the CUDA grid limit."""
        if tokens.shape[0] <= self.most_positions:
            return self.on_tokens(tokens, scale, in_windows)
        parts = tokens.split(self.most_positions)
        scales = scale.split(self.most_positions) if isinstance(scale, Tensor) else [scale] * len(parts)
        return torch.cat([self.on_tokens(part, part_scale, in_windows) for part, part_scale in zip(parts, scales)])

    def _in_tiles(self, x: Tensor, normed: Tensor, scale: Scale, effect: Scale, in_windows: InWindows | None = None
                  ) -> Tensor:
        """Return x + effect · change, computed in tiles of places whose intermediates stay in the cache.

        x, normed: [clip frame c place]. The layout changes by transposed copies of matrices [frame·c, place], which are
        several times as fast as permuted copies.
        """
        _, frames, c, places = x.shape
        out = torch.empty_like(x, memory_format=torch.contiguous_format)
        self._packed = packed(self, self._packed)
        work = self._packed or self.on_tokens
        size = max(1, CPU_TILE_TOKENS // frames)
        for normed_source, source, target in zip(normed.flatten(1, 2), x.flatten(1, 2), out.flatten(1, 2)):
            for begin in range(0, places, size):
                tile = slice(begin, begin + size)
                tokens = normed_source[:, tile].to(self.proj_in.weight.dtype).contiguous()
                tokens = tokens.t().contiguous().view(-1, frames, c)
                tile_scale = scale[:, tile].T.to(tokens) if isinstance(scale, Tensor) else scale
                change = work(tokens, tile_scale, in_windows).flatten(1).t().contiguous().to(x.dtype)
                if isinstance(effect, Tensor):
                    change = (change.view(frames, c, -1) * effect[:, None, tile].to(change)).view(change.shape)
                elif effect != 1:
                    change = change * effect
                torch.add(source[:, tile], change, out=target[:, tile])
        return out
