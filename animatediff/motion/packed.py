"""The temporal transformer on a CPU: products in oneDNN's own layout of the weights, fused with what follows them.

A plain product runs in MKL, which reads the weights as they lie. On a processor with AVX-512 oneDNN is a fifth to twice
as fast when they lie in its blocks, and adds residuals, GELU and gate while a block of the result is still in
registers; these are the operators that torch.compile emits for linear layers on CPUs. They are not part of torch's
documented interface, so they are tried once, and where they are missing or wrong the plain layers do the work. The
weights in blocks are a copy, as large as the module; it is made anew when a weight changes, and goes with
`MotionModule.release`.
"""
from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from animatediff.motion.plain import is_plain
from animatediff.motion.unchanged import MadeOf

if TYPE_CHECKING:
    from animatediff.motion.in_windows import InWindows
    from animatediff.motion.layers import TemporalAttention, TemporalLayers, TransformerBlock
    from animatediff.motion.scale import Scale

DTYPES = (torch.float32, torch.bfloat16)
ROWS = 1_024  # tokens of a call, for which the blocks are chosen


class Packed:
    """y = x Wᵀ + b with `weight` [out in] in blocks; the sums that follow are part of it."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None):
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), ROWS)
        self.bias = None if bias is None else bias.detach()

    def __call__(self, x: Tensor, then: str = "none", how: str = "") -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, then, [], how)

    def gelu(self, x: Tensor) -> Tensor:
        return self(x, "gelu", "none")

    def plus(self, x: Tensor, other: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise.binary(x, other, self.weight, self.bias, "add")

    def times(self, x: Tensor, other: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise.binary(x, other, self.weight, self.bias, "mul")


class PackedAttention:
    """TemporalAttention behind its LayerNorm and with its residual."""

    def __init__(self, attention: TemporalAttention, norm: nn.Module):
        self.attention, self.norm = attention, norm
        self.qkv = Packed(torch.cat([layer.weight for layer in (attention.to_q, attention.to_k, attention.to_v)]))
        self.out = Packed(attention.to_out[0].weight, attention.to_out[0].bias)

    def __call__(self, x: Tensor, scale: Scale) -> Tensor:
        q, k, v = self.qkv(self.attention.pos_encoder(self.norm(x))).chunk(3, -1)
        return self.out.plus(self.attention.attend(q, k, v, scale), x)


class PackedBlock:
    """TransformerBlock."""

    def __init__(self, block: TransformerBlock):
        self.attentions = [PackedAttention(*each) for each in zip(block.attention_blocks, block.norms)]
        self.norm = block.ff_norm
        both, down = block.ff.up.proj, block.ff.down
        (value, gate), (of_value, of_gate) = both.weight.chunk(2), both.bias.chunk(2)
        self.value, self.gate, self.down = (
            Packed(value, of_value), Packed(gate, of_gate), Packed(down.weight, down.bias))

    def __call__(self, x: Tensor, scale: Scale, in_windows: InWindows | None = None) -> Tensor:
        x = in_windows(self._attended, x, scale) if in_windows else self._attended(x, scale)
        normed = self.norm(x)
        return self.down.plus(self.value.times(normed, self.gate.gelu(normed)), x)

    def _attended(self, x: Tensor, scale: Scale) -> Tensor:
        for attention in self.attentions:
            x = attention(x, scale)
        return x


class PackedTransformer:
    """What TemporalLayers does to tokens [position frame c]."""

    def __init__(self, transformer: TemporalLayers):
        self.first = Packed(transformer.proj_in.weight, transformer.proj_in.bias)
        self.blocks = [PackedBlock(block) for block in transformer.transformer_blocks]
        self.last = Packed(transformer.proj_out.weight, transformer.proj_out.bias)
        self.made_of = MadeOf(transformer.parameters())

    def __call__(self, tokens: Tensor, scale: Scale, in_windows: InWindows | None = None) -> Tensor:
        x = self.first(tokens)
        for block in self.blocks:
            x = block(x, scale, in_windows)
        return self.last(x)


def packed(transformer: TemporalLayers, before: PackedTransformer | None) -> PackedTransformer | None:
    """The transformer with its weights as they are now, `before` if that still is; None where the plain layers are to
    do the work: elsewhere than on a CPU or where that is slower, while learning, and where someone looks into layers or
    has changed them."""
    weight = transformer.proj_in.weight
    if weight.device.type != "cpu" or weight.dtype not in DTYPES or torch.is_grad_enabled():
        return None
    if not is_faster() or not works(weight.dtype):
        return None
    if not all(map(is_plain, transformer.modules())):
        return None
    if before is not None and before.made_of(transformer.parameters()):
        return before
    return PackedTransformer(transformer)


def is_faster() -> bool:
    """Whether oneDNN is the faster one here. With AVX2 alone it does 77 GFLOP/s where MKL does 90, and 55 with GELU.

    Asked, not timed, so that a machine always gives the same clip bit for bit.
    """
    return torch.backends.cpu.get_cpu_capability().startswith("AVX512")


@cache
def works(dtype: torch.dtype) -> bool:
    """Whether this torch has the operators, and they give what they should."""
    if not torch.backends.mkldnn.is_available():
        return False
    random = torch.Generator().manual_seed(1)
    x, other, weight, bias = (torch.randn(shape, generator=random).to(dtype)
                              for shape in ((8, 32), (8, 48), (48, 32), (48,)))
    plain = F.linear(x, weight, bias).float()
    expected = plain, F.gelu(plain), plain + other.float(), plain * other.float()
    try:
        layer = Packed(weight, bias)
        found = layer(x), layer.gelu(x), layer.plus(x, other), layer.times(x, other)
    except (AttributeError, RuntimeError):  # NotImplementedError is one
        return False
    tolerance = 1e-4 if dtype == torch.float32 else 0.1
    return all(torch.allclose(a.float(), b, atol=tolerance, rtol=tolerance) for a, b in zip(found, expected))
