"""The temporal transformer on a CPU, with oneDNN products in blocked weight layout and fused with the next operator.

torch's plain product runs in MKL on weights in their usual layout. On a processor with AVX-512, oneDNN's blocked layout
is a fifth to twice as fast, and residual, GELU and gate are computed while a block of the result is still in registers.
torch.compile emits the same operators for linear layers on CPUs. They are not part of torch's documented interface, so
they are tried once; if they are missing or wrong, the plain layers are used.

The blocked weights are a copy as large as the module. It is made again when a weight changes, and
`MotionModule.release` frees it.
"""
from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from animatediff.motion.plain import is_plain
from animatediff.motion.unchanged import Unchanged

if TYPE_CHECKING:
    from animatediff.motion.in_windows import InWindows
    from animatediff.motion.layers import TemporalAttention, TemporalLayers, TransformerBlock
    from animatediff.motion.scale import Scale

DTYPES = (torch.float32, torch.bfloat16)
ROWS = 1_024  # tokens per call; oneDNN chooses its blocks for this number


class Packed:
    """A linear layer y = x Wᵀ + b with `weight` [out in] in blocked layout, optionally fused with the next operator."""

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
    """LayerNorm, TemporalAttention and the residual."""

    def __init__(self, attention: TemporalAttention, norm: nn.Module):
        self.attention, self.norm = attention, norm
        self.qkv = Packed(torch.cat([layer.weight for layer in (attention.to_q, attention.to_k, attention.to_v)]))
        self.out = Packed(attention.to_out[0].weight, attention.to_out[0].bias)

    def __call__(self, x: Tensor, scale: Scale) -> Tensor:
        q, k, v = self.qkv(self.attention.pos_encoder(self.norm(x))).chunk(3, -1)
        return self.out.plus(self.attention.attend(q, k, v, scale), x)


class PackedBlock:
    """Computes the same as TransformerBlock."""

    def __init__(self, block: TransformerBlock):
        self.attentions = [PackedAttention(*each) for each in zip(block.attention_blocks, block.norms)]
        self.norm = block.ff_norm
        up, down = block.ff.up.proj, block.ff.down
        (value, gate), (value_bias, gate_bias) = up.weight.chunk(2), up.bias.chunk(2)
        self.value, self.gate, self.down = (
            Packed(value, value_bias), Packed(gate, gate_bias), Packed(down.weight, down.bias))

    def __call__(self, x: Tensor, scale: Scale, in_windows: InWindows | None = None) -> Tensor:
        x = in_windows(self._attended, x, scale) if in_windows else self._attended(x, scale)
        normed = self.norm(x)
        return self.down.plus(self.value.times(normed, self.gate.gelu(normed)), x)

    def _attended(self, x: Tensor, scale: Scale) -> Tensor:
        for attention in self.attentions:
            x = attention(x, scale)
        return x


class PackedTransformer:
    """Computes the same as `TemporalTransformer.on_tokens`, for tokens [position frame c]."""

    def __init__(self, transformer: TemporalLayers):
        self.first = Packed(transformer.proj_in.weight, transformer.proj_in.bias)
        self.blocks = [PackedBlock(block) for block in transformer.transformer_blocks]
        self.last = Packed(transformer.proj_out.weight, transformer.proj_out.bias)
        self.unchanged = Unchanged(transformer.parameters())

    def __call__(self, tokens: Tensor, scale: Scale, in_windows: InWindows | None = None) -> Tensor:
        x = self.first(tokens)
        for block in self.blocks:
            x = block(x, scale, in_windows)
        return self.last(x)


def packed(transformer: TemporalLayers, before: PackedTransformer | None) -> PackedTransformer | None:
    """Return a PackedTransformer with the current weights, or None to use the plain layers.

    It is None if the weights are not on a CPU, if oneDNN is slower or does not work, if gradients are on, or if a layer
    has hooks or a replaced `forward`.
    before: the previous PackedTransformer; returned again while the weights are unchanged.
    """
    weight = transformer.proj_in.weight
    if weight.device.type != "cpu" or weight.dtype not in DTYPES or torch.is_grad_enabled():
        return None
    if not is_faster() or not works(weight.dtype):
        return None
    if not all(map(is_plain, transformer.modules())):
        return None
    if before is not None and before.unchanged(transformer.parameters()):
        return before
    return PackedTransformer(transformer)


def is_faster() -> bool:
    """Return whether oneDNN is faster than MKL, which is the case with AVX-512.

    With AVX2 alone oneDNN reaches 77 GFLOP/s (55 with GELU) and MKL 90. The processor's capability decides, not a
    timing, so that a machine always produces the same clip bit for bit.
    """
    return torch.backends.cpu.get_cpu_capability().startswith("AVX512")


@cache
def works(dtype: torch.dtype) -> bool:
    """Return whether this torch version has the operators and their results are right."""
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
