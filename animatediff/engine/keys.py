"""Convert state dict keys between diffusers/transformers modules and LDM's single files (SD1.x).

Each network has one table of (diffusers module, LDM module) prefixes, which is built for its depth and used in both
directions. The rest of a key after the prefix (`weight`, `bias`, the inside of an attention) is the same in both. Any
number of levels, layers per level and widths is supported.

`*_to_ldm` takes a module's state dict and returns full single-file keys, so that parts can be merged with `|`.
`*_from_ldm` takes the state dict of a file and returns one network's part.
"""
from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

from animatediff.errors import ModelError

UNET = "model.diffusion_model."
VAE = "first_stage_model."
TEXT = "cond_stage_model.transformer.text_model."
TEXT_SHORT = "cond_stage_model.transformer."  # in some merges

MOST_BLOCKS = 100  # in a network; SD1.x has 12 on the way down
StateDict = dict[str, Tensor]
Pair = tuple[str, str]

_UNET_RESNET: tuple[Pair, ...] = (
    ("norm1", "in_layers.0"), ("conv1", "in_layers.2"), ("time_emb_proj", "emb_layers.1"),
    ("norm2", "out_layers.0"), ("conv2", "out_layers.3"), ("conv_shortcut", "skip_connection"),
)  # fmt: skip
_UNET_ENDS: tuple[Pair, ...] = (
    ("time_embedding.linear_1", "time_embed.0"), ("time_embedding.linear_2", "time_embed.2"),
    ("add_embedding.linear_1", "label_emb.0.0"), ("add_embedding.linear_2", "label_emb.0.2"),
    ("conv_in", "input_blocks.0.0"), ("conv_norm_out", "out.0"), ("conv_out", "out.2"),
)  # fmt: skip
_VAE_RESNET: tuple[Pair, ...] = (
    *((n, n) for n in ("norm1", "conv1", "norm2", "conv2")), ("conv_shortcut", "nin_shortcut"),
)
_VAE_ATTENTION: tuple[Pair, ...] = (
    ("group_norm", "norm"), ("to_q", "q"), ("to_k", "k"), ("to_v", "v"), ("to_out.0", "proj_out"),
)  # fmt: skip
_VAE_OLD_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}  # diffusers < 0.17


def unet_to_ldm(state: Mapping[str, Tensor]) -> StateDict:
    """Return `UNet2DConditionModel.state_dict()` with keys `model.diffusion_model.*`."""
    layers = _layers(state, "down_blocks.{}.resnets.{}.")
    attended = {i for i in range(len(layers)) if _any(state, f"up_blocks.{i}.attentions.")}
    table = dict(_unet_pairs(layers, attended))
    return {UNET + _rename(key, table, "UNet"): value for key, value in state.items()}


def unet_from_ldm(state: Mapping[str, Tensor], prefix: str = UNET) -> StateDict:
    """Return `model.diffusion_model.*` of a single file with the keys of `UNet2DConditionModel`."""
    part = _part(state, prefix, "UNet")
    layers = unet_layers(part)
    ends = _level_ends(layers)
    attended = {i for i, end in enumerate(ends) if _any(part, f"output_blocks.{end}.1.transformer_blocks.")}
    table = {ldm: ours for ours, ldm in _unet_pairs(layers, attended)}
    return {_rename(key, table, "UNet"): value for key, value in part.items()}


def unet_layers(part: Mapping[str, Tensor]) -> list[int]:
    """Return the number of ResBlocks in each level on the way down, from LDM keys without prefix.

    A level ends with its downsampler.
    """
    layers, block = [0], 1
    while _any(part, f"input_blocks.{block}."):
        if f"input_blocks.{block}.0.op.weight" in part:
            layers.append(0)
        else:
            layers[-1] += 1
        block += 1
        _count(block)
    return layers


def vae_to_ldm(state: Mapping[str, Tensor]) -> StateDict:
    """Return `AutoencoderKL.state_dict()` with keys `first_stage_model.*`.

    The attention may have old or new names. Its weights are returned as 1×1 convolutions.
    """
    state = {vae_new_name(key): value for key, value in state.items()}
    encoder, decoder = _vae_depths(state, "encoder.down_blocks.{}.resnets.{}.", "decoder.up_blocks.{}.resnets.{}.")
    table = dict(_vae_pairs(encoder, decoder))
    result = {}
    for key, value in state.items():
        name = _rename(key, table, "VAE")
        if ".attn_1." in name and value.ndim == 2:
            value = value[:, :, None, None]
        result[VAE + name] = value
    return result


def vae_from_ldm(state: Mapping[str, Tensor], prefix: str = VAE) -> StateDict:
    """Return `first_stage_model.*` of a single file with the keys of `AutoencoderKL`, attention as linear layers."""
    part = {k: v for k, v in _part(state, prefix, "VAE").items() if not k.startswith(("loss.", "model_ema."))}
    encoder, up = _vae_depths(part, "encoder.down.{}.block.{}.", "decoder.up.{}.block.{}.")
    table = {ldm: ours for ours, ldm in _vae_pairs(encoder, up[::-1])}
    result = {}
    for key, value in part.items():
        if ".attn_1." in key and value.ndim == 4:
            value = value[:, :, 0, 0]
        result[_rename(key, table, "VAE")] = value
    return result


def text_to_ldm(state: Mapping[str, Tensor]) -> StateDict:
    """Return `CLIPTextModel.state_dict()` with keys `cond_stage_model.*`.

    The state dict may have the prefix `text_model.` of transformers 4.
    """
    return {
        TEXT + key.removeprefix("text_model."): value
        for key, value in state.items()
        if not key.endswith("position_ids")
    }


def text_from_ldm(state: Mapping[str, Tensor]) -> StateDict:
    """Return `cond_stage_model.transformer.*` with the keys of `CLIPTextModel`.

    The keys have no prefix `text_model.`, and `position_ids` is left out.
    """
    part = _part(state, TEXT if _any(state, TEXT) else TEXT_SHORT, "text encoder")
    return {key: value for key, value in part.items() if not key.endswith("position_ids")}


def _unet_pairs(layers: list[int], attended: set[int]) -> Iterable[Pair]:
    """Yield (diffusers module, LDM module) of the UNet.

    layers: number of ResBlocks in each level on the way down.
    attended: levels on the way up, deepest first, that have attention.
    """
    yield from _UNET_ENDS
    block = 0
    for level, count in enumerate(layers):
        for layer in range(count):
            block += 1
            yield from _inside(f"down_blocks.{level}.resnets.{layer}", f"input_blocks.{block}.0", _UNET_RESNET)
            yield f"down_blocks.{level}.attentions.{layer}", f"input_blocks.{block}.1"
        if level < len(layers) - 1:
            block += 1
            yield f"down_blocks.{level}.downsamplers.0.conv", f"input_blocks.{block}.0.op"
    yield from _inside("mid_block.resnets.0", "middle_block.0", _UNET_RESNET)
    yield "mid_block.attentions.0", "middle_block.1"
    yield from _inside("mid_block.resnets.1", "middle_block.2", _UNET_RESNET)
    for level, end in enumerate(_level_ends(layers)):
        count = layers[-1 - level] + 1
        for layer in range(count):
            block = end - count + 1 + layer
            yield from _inside(f"up_blocks.{level}.resnets.{layer}", f"output_blocks.{block}.0", _UNET_RESNET)
            if level in attended:
                yield f"up_blocks.{level}.attentions.{layer}", f"output_blocks.{block}.1"
        # The upsampler comes after the attention of the level's last block, or takes its index if there is none.
        place = 2 if level in attended else 1
        yield f"up_blocks.{level}.upsamplers.0.conv", f"output_blocks.{end}.{place}.conv"


def _level_ends(layers: list[int]) -> list[int]:
    """Return the index of the last output block of each level on the way up.

    A level has one ResBlock more than on the way down.
    """
    ends, last = [], -1
    for count in reversed(layers):
        last += count + 1
        ends.append(last)
    return ends


def _vae_pairs(encoder: list[int], decoder: list[int]) -> Iterable[Pair]:
    """Yield (diffusers module, LDM module) of the VAE.

    encoder: number of ResBlocks in each level, from the picture to the latents.
    decoder: number of ResBlocks in each level, from the latents to the picture. LDM counts these levels backwards.
    """
    for name in ("quant_conv", "post_quant_conv"):
        yield name, name
    for part in ("encoder", "decoder"):
        for ours, ldm in (("conv_in", "conv_in"), ("conv_norm_out", "norm_out"), ("conv_out", "conv_out")):
            yield f"{part}.{ours}", f"{part}.{ldm}"
        for i in (0, 1):
            yield from _inside(f"{part}.mid_block.resnets.{i}", f"{part}.mid.block_{i + 1}", _VAE_RESNET)
        yield from _inside(f"{part}.mid_block.attentions.0", f"{part}.mid.attn_1", _VAE_ATTENTION)
    for level, count in enumerate(encoder):
        for layer in range(count):
            yield from _inside(
                f"encoder.down_blocks.{level}.resnets.{layer}", f"encoder.down.{level}.block.{layer}", _VAE_RESNET
            )
        yield f"encoder.down_blocks.{level}.downsamplers.0.conv", f"encoder.down.{level}.downsample.conv"
    for level, count in enumerate(decoder):
        mirrored = len(decoder) - 1 - level
        for layer in range(count):
            yield from _inside(
                f"decoder.up_blocks.{level}.resnets.{layer}", f"decoder.up.{mirrored}.block.{layer}", _VAE_RESNET
            )
        yield f"decoder.up_blocks.{level}.upsamplers.0.conv", f"decoder.up.{mirrored}.upsample.conv"


def _vae_depths(state: Mapping[str, Tensor], down: str, up: str) -> tuple[list[int], list[int]]:
    return _layers(state, down), _layers(state, up)


def vae_new_name(key: str) -> str:
    """Return a key of the VAE with the attention's current name. diffusers before 0.17 has other names."""
    old = re.search(r"\.attentions\.0\.(query|key|value|proj_attn)\.", key)
    return key.replace(f".{old[1]}.", f".{_VAE_OLD_NAMES[old[1]]}.") if old else key


def _inside(ours: str, ldm: str, names: tuple[Pair, ...]) -> Iterable[Pair]:
    return ((f"{ours}.{a}", f"{ldm}.{b}") for a, b in names)


def _rename(key: str, table: Mapping[str, str], network: str) -> str:
    """Replace the longest module prefix that is in the table. Raise ModelError if there is none."""
    end = len(key)
    while (end := key.rfind(".", 0, end)) > 0:
        if key[:end] in table:
            return table[key[:end]] + key[end:]
    raise ModelError(
        f"the {network} has a tensor that Stable Diffusion 1.x does not have",
        where=key,
        remedy="Use an SD1.5 checkpoint without extra layers",
    )


def _layers(state: Mapping[str, Tensor], template: str) -> list[int]:
    """Return the number of layers in each level. Keys of layer j in level i begin with `template.format(i, j)`."""
    layers: list[int] = []
    while _any(state, template.format(len(layers), 0)):
        layers.append(1)
        while _any(state, template.format(len(layers) - 1, layers[-1])):
            layers[-1] += 1
            _count(layers[-1])
        _count(len(layers))
    return layers


def _count(blocks: int) -> None:
    if blocks > MOST_BLOCKS:
        raise ModelError(f"the file claims more than {MOST_BLOCKS} blocks", remedy="Use an SD1.5 checkpoint")


def _part(state: Mapping[str, Tensor], prefix: str, network: str) -> StateDict:
    part = {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
    if not part:
        raise ModelError(f"the file holds no {network}", where=f"{prefix}*", remedy="Use a complete SD1.5 checkpoint")
    return part


def _any(state: Mapping[str, Tensor], prefix: str) -> bool:
    return any(key.startswith(prefix) for key in state)
