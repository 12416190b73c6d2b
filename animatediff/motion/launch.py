"""The Triton kernels as functions of tensors on the current device. Importing this module needs Triton."""
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn

from animatediff.motion import kernels

if TYPE_CHECKING:
    from animatediff.motion.scale import Scale


class Kernel(Protocol):
    """A function compiled by `triton.jit`.

    A launch takes the function's arguments, with plain numbers for constants, and Triton's own: `num_warps` and
    `num_stages`.
    """

    def __getitem__(self, grid: tuple[int, ...], /) -> Callable[..., object]: ...


def _launch(kernel: Kernel, grid: tuple[int, ...]) -> Callable[..., object]:
    return kernel[grid]


def _power(least: int) -> int:
    """Return the smallest power of two that is at least `least`."""
    return 1 << (least - 1).bit_length()


def _blocks(count: int, size: int) -> int:
    return -(-count // size)


def group_statistics(x: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """Return mean and variance [row group] of x [row channel place], fp32."""
    rows, channels, places = x.shape
    mean, variance = (torch.empty(rows, groups, dtype=torch.float32, device=x.device) for _ in range(2))
    per_group = channels // groups
    size = _power(per_group)
    block = max(16, min(_power(places), 8_192 // size))
    _launch(kernels.group_statistics, (rows, groups))(
        x, mean, variance, places, *x.stride(), PER_GROUP=per_group, CHANNELS=size, BLOCK=block, num_warps=8)
    return mean, variance


def group_normed(x: Tensor, norm: nn.GroupNorm, mean: Tensor, variance: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the GroupNorm of x [row channel place] as tokens [row place channel].

    mean, variance: [row group], the statistics of x.
    """
    rows, channels, places = x.shape
    out = torch.empty(rows, places, channels, dtype=dtype, device=x.device)
    block_c, block_p = 64, min(128, _power(places))
    grid = (rows * _blocks(channels, block_c) * _blocks(places, block_p),)
    _launch(kernels.group_normed, grid)(
        x, mean, variance, norm.weight, norm.bias, out, places, channels, norm.eps, *x.stride(),
        PER_GROUP=channels // norm.num_groups, BLOCK_C=block_c, BLOCK_P=block_p)
    return out


def layer_normed(x: Tensor, norm: nn.LayerNorm, constant: Tensor, encoding: Tensor | None = None) -> Tensor:
    """Return the LayerNorm of x + constant, plus `encoding`; computed in fp32.

    x: [clip frame place c]. constant: [c]. encoding: [frame c].
    """
    _, frames, places, c = x.shape
    out, rows = torch.empty_like(x), x.numel() // c
    block, each = _power(c), 4
    _launch(kernels.layer_normed, (_blocks(rows, each),))(
        x, constant, norm.weight, norm.bias,
        norm.weight if encoding is None else encoding, out, rows, places, frames, c, norm.eps,
        HAS_ENCODING=encoding is not None, ROWS=each, BLOCK=block,
        num_warps=max(1, min(8, block // 512)))
    return out


def attended(qkv: Tensor, heads: int, scale: Scale = 1.0) -> Tensor:
    """Return the self-attention along frames of qkv [clip frame place 3·c] -> [clip frame place c].

    scale: factor of the keys, a number or [1 frame place].
    """
    clips, frames, places, _ = qkv.shape
    c = qkv.shape[-1] // 3
    width = c // heads
    out = torch.empty(clips, frames, places, c, dtype=qkv.dtype, device=qkv.device)
    block, block_d = max(16, _power(frames)), max(16, _power(width))
    is_map = isinstance(scale, Tensor)
    grid = (clips * heads * _blocks(places, block // frames),)
    _launch(kernels.attended, grid)(
        qkv, scale if is_map else qkv, out, places, heads, width**-0.5 * (1.0 if is_map else float(scale)),
        HAS_SCALE=is_map, FRAMES=frames, WIDTH=width, BLOCK=block, BLOCK_D=block_d,
        num_warps=max(1, min(8, block * block_d // 2_048)))
    return out


def gated(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return GEGLU of x [… c] -> [row inner]. weight: [2·inner c], the value's half first."""
    channels, inner = x.shape[-1], len(weight) // 2
    rows = x.numel() // channels
    out = torch.empty(rows, inner, dtype=x.dtype, device=x.device)
    block_m, block_n = 128, 64
    grid = (_blocks(rows, block_m) * _blocks(inner, block_n),)
    _launch(kernels.gated, grid)(
        x, weight, bias, out, rows, inner, channels, EVEN=channels % 64 == 0,
        BLOCK_M=block_m, BLOCK_N=block_n, BLOCK_K=64, GROUP=8, num_warps=4, num_stages=3)
    return out


def projected_out(tokens: Tensor, weight: Tensor, bias: Tensor, x: Tensor, effect: Scale, out: Tensor, frames: int
                  ) -> None:
    """Write x + effect · (tokens Wᵀ + bias) to `out`.

    tokens: [row place c]. x, out: [row c place], with rows in frame order. effect: a number or [frame place].
    """
    rows, channels, places = x.shape
    block_c, block_p = 64 if channels % 128 else 128, max(16, min(128, _power(places)))
    is_map = isinstance(effect, Tensor)
    grid = (_blocks(channels, block_c) * _blocks(places, block_p) * rows,)
    _launch(kernels.projected_out, grid)(
        tokens, weight, bias, x, effect if is_map else bias, out, places, channels, frames, *x.stride(),
        *out.stride(), 1.0 if is_map else float(effect), HAS_EFFECT=is_map, EVEN=channels % 64 == 0,
        BLOCK_C=block_c, BLOCK_P=block_p, BLOCK_K=64, num_warps=4, num_stages=3)
