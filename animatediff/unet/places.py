"""Find the sites of a motion module in a host's UNet.

UNets are recognised by their structure and no host is imported. So a recognised UNet is typed as Any.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import nn

from animatediff.errors import ModelError


@dataclass
class Places:
    """The submodules of a UNet that a motion module hooks into."""

    base: str = ""  # "SD1.5", "SDXL", or the name of a model without motion modules
    widths: tuple[int, ...] = ()  # channels per level, outermost first
    sites: dict[str, nn.Module] = field(default_factory=dict)  # site name -> the submodule whose output it changes
    resnet_norms: list[nn.Module] = field(default_factory=list)
    out_norms: list[nn.Module] = field(default_factory=list)


def find_places(unet: nn.Module) -> Places:
    """Return the Places of a UNet in LDM or diffusers layout. Raises ModelError for anything else."""
    if all(hasattr(unet, name) for name in ("input_blocks", "middle_block", "output_blocks", "out")):
        return _in_ldm(unet)
    if all(hasattr(unet, name) for name in ("down_blocks", "mid_block", "up_blocks", "conv_norm_out")):
        return _in_diffusers(unet)
    raise ModelError(
        f"{type(unet).__name__} is not a UNet that motion modules fit", remedy="Use a checkpoint of SD1.5 or SDXL."
    )


def _is_resblock(m: nn.Module) -> bool:
    return hasattr(m, "in_layers") and hasattr(m, "out_layers")


def _is_spatial_transformer(m: nn.Module) -> bool:
    return hasattr(m, "transformer_blocks") and hasattr(m, "proj_in")


def _in_ldm(unet: Any) -> Places:
    """Return the Places of a UNet in LDM layout.

    A site follows the block's SpatialTransformer, or its ResBlock if there is none, and precedes a Downsample or
    Upsample.
    SD1.5: input blocks 1 2 | 4 5 | 7 8 | 10 11, output blocks 0-2 | 3-5 | 6-8 | 9-11. SDXL: one level less.
    """

    def last(block: Any) -> nn.Module:
        return next(m for test in (_is_spatial_transformer, _is_resblock) for m in reversed(list(block)) if test(m))

    # Blocks without a ResBlock are the first convolution and the Downsamples.
    down = [block for block in unet.input_blocks if any(map(_is_resblock, block))]
    blocks = [*down, unet.middle_block, *unet.output_blocks]
    resblocks = [m for block in blocks for m in block if _is_resblock(m)]
    widths = tuple(next(filter(_is_resblock, block)).out_layers[0].num_channels for block in down[1::2])
    places = Places(_base(unet, len(widths), len(down), len(unet.output_blocks)), widths)
    for i, block in enumerate(down):
        places.sites[f"down_blocks.{i // 2}.motion_modules.{i % 2}"] = last(block)
    places.sites["mid_block.motion_modules.0"] = last(unet.middle_block)
    for i, block in enumerate(unet.output_blocks):
        places.sites[f"up_blocks.{i // 3}.motion_modules.{i % 3}"] = last(block)
    places.resnet_norms = [norm for m in resblocks for norm in (m.in_layers[0], m.out_layers[0])]
    places.out_norms = [unet.out[0]]
    return places


def _in_diffusers(unet: Any) -> Places:
    """Return the Places of a UNet in diffusers layout.

    A site follows `attentions[j]`, or `resnets[j]` if there are none; in the mid block it follows the attention.
    """
    resnets = {
        side: [r for block in getattr(unet, side) for r in block.resnets] for side in ("down_blocks", "up_blocks")
    }
    widths = tuple(block.resnets[-1].norm2.num_channels for block in unet.down_blocks)
    places = Places(_base(unet, len(widths), len(resnets["down_blocks"]), len(resnets["up_blocks"])), widths)
    for side in resnets:
        for i, block in enumerate(getattr(unet, side)):
            for j, host in enumerate(getattr(block, "attentions", None) or block.resnets):
                places.sites[f"{side}.{i}.motion_modules.{j}"] = host
    places.sites["mid_block.motion_modules.0"] = unet.mid_block.attentions[0]
    ordered = [*resnets["down_blocks"], *unet.mid_block.resnets, *resnets["up_blocks"]]
    places.resnet_norms = [norm for r in ordered for norm in (r.norm1, r.norm2)]
    places.out_norms = [unet.conv_norm_out]
    return places


def _base(unet: Any, levels: int, down: int, up: int) -> str:
    """Return the base model of the UNet, such as "SD1.5". Raises ModelError if the numbers of blocks do not fit.

    levels, down, up: number of levels, of blocks on the way down and on the way up. SD1.5 and SDXL have two blocks per
    level on the way down and three on the way up.
    """
    if (down, up) != (2 * levels, 3 * levels) or levels not in (3, 4):
        raise ModelError(
            f"the checkpoint's UNet has {down} blocks on the way down and {up} on the way up in {levels} levels, but "
            "motion modules fit those of SD1.5 (8 and 12 in 4) and SDXL (6 and 9 in 3)",
            remedy="Use a checkpoint of SD1.5 or SDXL.",
        )
    # SD2.x and the SDXL refiner have four levels as well, but text encoders of another width.
    text = next((m.attn2.to_k.weight.shape[-1] for m in unet.modules() if hasattr(m, "attn2")), 0)
    return "SDXL" if levels == 3 else {1024: "SD2.x", 1280: "the SDXL refiner"}.get(text, "SD1.5")


def inner_blocks(unet: Any) -> list[nn.Module]:
    """Return the parts of all blocks except the outermost on each side, in the order in which they run.

    The outermost block on the way down is the first convolution. LDM (SD1.5): the layers of input blocks 1 to 11, the
    middle block, output blocks 0 to 10. They are layers because reForge calls these and not their block. diffusers: the
    same, as resnets, attentions and resizers.
    """
    if hasattr(unet, "input_blocks"):
        blocks = [*unet.input_blocks[1:], unet.middle_block, *unet.output_blocks[:-1]]
        return [layer for block in blocks for layer in block]

    def parts(block: Any) -> list[nn.Module]:
        attentions = getattr(block, "attentions", None) or [None] * len(block.resnets)
        resizers = getattr(block, "downsamplers", None) or getattr(block, "upsamplers", None) or []
        return [m for pair in zip(block.resnets, attentions) for m in pair if m is not None] + [*resizers]

    down, up = ([m for block in side for m in parts(block)] for side in (unet.down_blocks, unet.up_blocks))
    outermost = 2 if getattr(unet.up_blocks[-1], "attentions", None) else 1
    return [*down, unet.mid_block, *up[:-outermost]]
