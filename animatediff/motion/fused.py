"""The temporal transformer on a GPU, with Triton kernels that fuse several operators into one pass over memory.

All matrix products but two stay with cuBLAS. The rest of the GPU's time is spent on moving bytes. Savings over the
plain layers:

* Tokens keep the UNet's order [clip frame place channel]. Attention reaches the frames of a place by strides, so
  nothing is copied into another layout. The first kernel swaps channels and places while it normalises; the last one
  swaps them back while it projects, adds the input and applies the effect.
* cuBLAS adds the residual as part of the product. It cannot add the bias as well, so the biases are summed in a
  constant vector. The next LayerNorm adds it while it reads, and the bias of the last product includes it.
* LayerNorm with positional encoding, attention over all frames, and GEGLU are one kernel each.

Importing this module needs Triton.
"""
from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from animatediff.motion import launch
from animatediff.motion.side_by_side import side_by_side
from animatediff.motion.unchanged import Unchanged

if TYPE_CHECKING:
    from animatediff.motion.in_windows import InWindows
    from animatediff.motion.layers import TemporalAttention, TemporalLayers, TransformerBlock
    from animatediff.motion.scale import Scale


class FusedAttention:
    """LayerNorm, TemporalAttention and the residual, without the bias of `to_out`.

    constant: [c], the biases that have not been added to x yet; the LayerNorm adds them.
    """

    def __init__(self, attention: TemporalAttention, norm: nn.LayerNorm, constant: Tensor):
        self.attention, self.norm, self.constant = attention, norm, constant

    def __call__(self, x: Tensor, scale: Scale) -> Tensor:
        """Add the attention's result to x [clip frame place c] in place. scale: a number or [1 frame place]."""
        _, frames, _, c = x.shape
        weights = [layer.weight for layer in (self.attention.to_q, self.attention.to_k, self.attention.to_v)]
        normed = launch.layer_normed(x, self.norm, self.constant, self.attention.pos_encoder.pe[0, :frames])
        qkv = F.linear(normed, side_by_side(weights))
        del normed
        result = launch.attended(qkv, self.attention.heads, scale)
        del qkv
        x.view(-1, c).addmm_(result.view(-1, c), self.attention.to_out[0].weight.t())
        return x


class FusedBlock:
    """A TransformerBlock without the biases of the products that add the residuals.

    The argument `constant` [c] holds the biases still missing from x before the block. The attribute `constant` is the
    same after the block: it includes the block's own biases.
    """

    def __init__(self, block: TransformerBlock, constant: Tensor):
        self.attentions, self.constant = [], constant
        for attention, norm in zip(block.attention_blocks, block.norms):
            self.attentions.append(FusedAttention(attention, norm, self.constant))
            self.constant = self.constant + attention.to_out[0].bias.detach().float()
        self.before_ff, self.norm = self.constant, block.ff_norm
        self.up, self.down = block.ff.up.proj, block.ff.down
        self.constant = self.constant + self.down.bias.detach().float()

    def __call__(self, x: Tensor, scale: Scale, in_windows: InWindows | None) -> Tensor:
        x = in_windows(self._attended, x, scale) if in_windows else self._attended(x, scale)
        hidden = launch.gated(launch.layer_normed(x, self.norm, self.before_ff), self.up.weight, self.up.bias)
        x.view(-1, x.shape[-1]).addmm_(hidden, self.down.weight.t())
        return x

    def _attended(self, x: Tensor, scale: Scale) -> Tensor:
        for attention in self.attentions:
            x = attention(x, scale)
        return x


class FusedTransformer:
    """Computes the same as TemporalTransformer."""

    def __init__(self, transformer: TemporalLayers):
        [block], first, out = transformer.transformer_blocks, transformer.proj_in, transformer.proj_out
        self.transformer, self.block = transformer, FusedBlock(block, first.bias.detach().float())
        self.dtype = first.weight.dtype
        self.bias = torch.addmv(out.bias.detach().float(), out.weight.detach().float(), self.block.constant)
        self.unchanged = Unchanged(transformer.parameters())

    def __call__(self, x: Tensor, frames: int, scale: Scale = 1.0, effect: Scale = 1.0,
                 in_windows: InWindows | None = None) -> Tensor:
        """Return x + effect · change for x [(clip frame) c h w]. scale, effect: numbers or [frame h·w]."""
        flat = x.flatten(2)
        out = torch.empty_like(flat)
        with _current_device(x):
            size = max(1, self.transformer.most_positions * frames // len(x))
            normed = self._normed(flat, frames, in_windows)
            for begin in range(0, flat.shape[2], size):
                part = slice(begin, begin + size)
                part_scale, part_effect = (each[:, part].float().contiguous() if isinstance(each, Tensor) else each
                                      for each in (scale, effect))
                tokens = self._tokens(normed(part), frames, part_scale, in_windows)
                launch.projected_out(tokens, self.transformer.proj_out.weight, self.bias, flat[:, :, part], part_effect,
                                     out[:, :, part], frames)
        return out.unflatten(2, x.shape[2:])

    def _normed(self, x: Tensor, frames: int, in_windows: InWindows | None) -> Callable[[slice], Tensor]:
        """Return a function from a slice of places to their normalised tokens [row place channel].

        x: [row channel place].
        """
        if in_windows and self.transformer.over_frames:  # each window has its own statistics
            normed = self.transformer.normed(x.unflatten(2, (-1, 1)), frames, in_windows).flatten(0, 1).to(self.dtype)
            return lambda part: normed[:, :, part].transpose(1, 2).contiguous()
        mean, variance = launch.group_statistics(x, self.transformer.norm.num_groups)
        if self.transformer.over_frames:
            mean, variance = _over_frames(mean, variance, frames)
        return lambda part: launch.group_normed(x[:, :, part], self.transformer.norm, mean, variance, self.dtype)

    def _tokens(self, tokens: Tensor, frames: int, scale: Scale, in_windows: InWindows | None) -> Tensor:
        """Return tokens [row place channel] after `proj_in` and the block; the shape is the same."""
        tokens = F.linear(tokens, self.transformer.proj_in.weight).unflatten(0, (-1, frames))
        return self.block(tokens, scale[None] if isinstance(scale, Tensor) else scale, in_windows).flatten(0, 1)


def _over_frames(mean: Tensor, variance: Tensor, frames: int) -> tuple[Tensor, Tensor]:
    """Return the mean and variance over all frames of a clip, from those of each frame [(clip frame) group]."""
    means, variances = (each.unflatten(0, (-1, frames)) for each in (mean, variance))
    mean = means.mean(1, keepdim=True)
    variance = (variances + (means - mean).square()).mean(1, keepdim=True)
    return mean.expand_as(means).flatten(0, 1).contiguous(), variance.expand_as(means).flatten(0, 1).contiguous()


def _current_device(x: Tensor) -> AbstractContextManager:
    """Make the device of x current, since Triton launches kernels on the current device."""
    return torch.cuda.device(x.device) if x.is_cuda else nullcontext()
