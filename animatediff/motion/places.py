"""Where a motion module's sites belong in a host's UNet, found by structure: no host is imported."""
from __future__ import annotations

from dataclasses import dataclass, field

from torch import nn

from animatediff.errors import ModelError


@dataclass
class Places:
    """The UNet's submodules that a motion module has to do with."""

    sites: dict[str, nn.Module] = field(default_factory=dict)  # site name -> the submodule after which it comes
    widths: tuple[int, ...] = ()  # channels per level, outermost first
    resnet_norms: list[nn.Module] = field(default_factory=list)
    out_norms: list[nn.Module] = field(default_factory=list)

    @property
    def base(self) -> str:
        return {3: "SDXL", 4: "SD1.5"}.get(len(self.widths), f"a UNet of {len(self.widths)} levels")


def find_places(unet: nn.Module) -> Places:
    """The places of a UNet in LDM or diffusers layout; ModelError for anything else."""
    if all(hasattr(unet, name) for name in ("input_blocks", "middle_block", "output_blocks", "out")):
        return _in_ldm(unet)
    if all(hasattr(unet, name) for name in ("down_blocks", "mid_block", "up_blocks", "conv_norm_out")):
        return _in_diffusers(unet)
    raise ModelError(
        f"{type(unet).__name__} is no Stable Diffusion UNet that motion modules fit",
        remedy="Use a checkpoint of SD1.5 or SDXL.",
    )


def _is_resblock(m: nn.Module) -> bool:
    return hasattr(m, "in_layers") and hasattr(m, "out_layers")


def _is_spatial_transformer(m: nn.Module) -> bool:
    return hasattr(m, "transformer_blocks") and hasattr(m, "proj_in")


def _in_ldm(unet: nn.Module) -> Places:
    """After the block's SpatialTransformer, else its ResBlock, which is before a Downsample or Upsample.

    SD1.5: input blocks 1 2 | 4 5 | 7 8 | 10 11, output blocks 0-2 | 3-5 | 6-8 | 9-11. SDXL: one level less.
    """
    places = Places()

    def last(block: nn.Module) -> nn.Module | None:
        for test in (_is_spatial_transformer, _is_resblock):
            found = [m for m in block if test(m)]
            if found:
                return found[-1]
        return None

    # Blocks without a ResBlock are the first convolution and the Downsamples.
    with_resblock = [b for b in unet.input_blocks if any(_is_resblock(m) for m in b)]
    for i, block in enumerate(with_resblock):
        places.sites[f"down_blocks.{i // 2}.motion_modules.{i % 2}"] = last(block)
    for i, block in enumerate(unet.output_blocks):
        places.sites[f"up_blocks.{i // 3}.motion_modules.{i % 3}"] = last(block)
    places.sites["mid_block.motion_modules.0"] = last(unet.middle_block)
    places.widths = tuple(_ldm_width(block) for block in with_resblock[1::2])
    _check_regular(places, len(with_resblock), len(unet.output_blocks))
    resblocks = [m for part in (unet.input_blocks, unet.middle_block, unet.output_blocks) for m in part.modules()]
    places.resnet_norms = [n for m in resblocks if _is_resblock(m) for n in (m.in_layers[0], m.out_layers[0])]
    places.out_norms = [unet.out[0]]
    return places


def _ldm_width(block: nn.Module) -> int:
    return next(m for m in block if _is_resblock(m)).out_layers[-1].weight.shape[0]


def _in_diffusers(unet: nn.Module) -> Places:
    """After `attentions[j]`, else after `resnets[j]`; in the mid block after its attention."""
    places = Places()
    for side in ("down_blocks", "up_blocks"):
        for i, block in enumerate(getattr(unet, side)):
            hosts = getattr(block, "attentions", None) or block.resnets
            for j, host in enumerate(hosts):
                places.sites[f"{side}.{i}.motion_modules.{j}"] = host
    places.sites["mid_block.motion_modules.0"] = unet.mid_block.attentions[0]
    places.widths = tuple(block.resnets[-1].conv2.weight.shape[0] for block in unet.down_blocks)
    _check_regular(
        places, sum(len(b.resnets) for b in unet.down_blocks), sum(len(b.resnets) for b in unet.up_blocks)
    )
    blocks = [*unet.down_blocks, unet.mid_block, *unet.up_blocks]
    places.resnet_norms = [norm for block in blocks for r in block.resnets for norm in (r.norm1, r.norm2)]
    places.out_norms = [unet.conv_norm_out]
    return places


def _check_regular(places: Places, down: int, up: int) -> None:
    """Two blocks per level on the way down and three on the way up, as in SD1.5 and SDXL."""
    levels = len(places.widths)
    if (down, up) != (2 * levels, 3 * levels) or levels not in (3, 4):
        raise ModelError(
            f"the checkpoint's UNet has {down} blocks on the way down and {up} on the way up in {levels} levels: "
            "motion modules fit those of SD1.5 (8 and 12 in 4) and SDXL (6 and 9 in 3)",
            remedy="Use a checkpoint of SD1.5 or SDXL.",
        )
