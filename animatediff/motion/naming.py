"""Convert tensor names between the original AnimateDiff naming, diffusers' MotionAdapter and HotShot-XL.

The project uses only the original naming internally.

    original   down_blocks.0.motion_modules.1.temporal_transformer.transformer_blocks.0.attention_blocks.0.to_q.weight
    diffusers  down_blocks.0.motion_modules.1.transformer_blocks.0.attn1.to_q.weight
    HotShot    down_blocks.0.temporal_attentions.1.transformer_blocks.0.attention_blocks.0.to_q.weight
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor

from animatediff.weights.naming import SITE, site_of

T = TypeVar("T")

# Names inside a transformer block: diffusers, original.
_IN_BLOCK = (
    ("attn1.", "attention_blocks.0."),
    ("attn2.", "attention_blocks.1."),
    ("norm1.", "norms.0."),
    ("norm2.", "norms.1."),
    ("norm3.", "ff_norm."),
)
_BLOCK = re.compile(r"(transformer_blocks\.\d+\.)(.+)$")
_PE = tuple(f"attention_blocks.{i}.pos_encoder.pe" for i in (0, 1))


def to_original(state: Mapping[str, T]) -> dict[str, T]:
    """Return the temporal layers of a state dict in the original naming; other keys are dropped.

    state: tensors or shapes by key, in any naming.
    """
    result: dict[str, T] = {}
    for key, value in state.items():
        match = SITE.search(key)
        if not match:
            continue
        prefix, inner = f"{site_of(key)}.temporal_transformer.", match[3]
        block = _BLOCK.match(inner)
        if not block:
            result[prefix + inner] = value
        elif block[2] == "pos_embed.pe":  # diffusers stores one for both attentions
            result.update({prefix + block[1] + pe: value for pe in _PE})
        else:
            result[prefix + block[1] + _in_block(block[2])] = value
    return result


def _in_block(name: str) -> str:
    for diffusers, original in _IN_BLOCK:
        if name.startswith(diffusers):
            return original + name.removeprefix(diffusers)
    return name.replace("pos_encoder.positional_encoding", "pos_encoder.pe")


def to_diffusers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state dict in the naming of diffusers' MotionAdapter."""
    result: dict[str, Tensor] = {}
    for key, value in state.items():
        new = key.replace(".temporal_transformer.", ".")
        for diffusers, original in _IN_BLOCK:
            new = re.sub(rf"(transformer_blocks\.\d+\.){re.escape(original)}", rf"\g<1>{diffusers}", new)
        new = re.sub(r"attn[12]\.pos_encoder\.pe$", "pos_embed.pe", new)
        if new in result and not torch.equal(result[new], value):
            raise ValueError(f"diffusers has one positional encoding for both attentions, but they differ: {key}")
        result[new] = value
    return result


def to_hotshot(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state dict in HotShot-XL's naming."""
    renamed = ((".motion_modules.", ".temporal_attentions."), (".temporal_transformer.", "."))
    result: dict[str, Tensor] = {}
    for key, value in state.items():
        for original, hotshot in (*renamed, ("pos_encoder.pe", "pos_encoder.positional_encoding")):
            key = key.replace(original, hotshot)
        result[key] = value
    return result
