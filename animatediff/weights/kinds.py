"""The registry of kinds of weight files, detected from tensor names and shapes.

A new kind is one entry in KINDS. Entries are tried in order; the first one that matches is used. Code that opens a file
checks for the kind that it needs; its error message names the kind that it found.
"""
from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from animatediff.weights.evidence import Evidence, Shape, Test, beginning, has, lora, shape, temporal

MOTION_MODULE, MOTION_LORA, DOMAIN_ADAPTER = "motion module", "motion LoRA", "domain adapter"
IMAGE_LORA, CHECKPOINT, UPSCALER = "image LoRA", "SD1.5 checkpoint", "upscaler"
RIFE, FILM = "RIFE", "FILM"
# Keys of v3's domain adapter. Image LoRAs use other names, and most of them change more than attention.
_ADAPTER_KEY = re.compile(
    r"(?:module\.)*(?:down_blocks|mid_block|up_blocks)\.[\w.]+\.attn[12]\.processor\.to_(?:q|k|v|out)_lora\."
    r"(?:down|up)\.weight"
)
_FIRST_LAYER = "model.diffusion_model.input_blocks.0.0.weight"


@dataclass(frozen=True)
class Kind:
    """A kind of weight file."""

    name: str
    phrase: str  # completes "FILE is …"
    matches: Test = field(repr=False, compare=False)
    is_image_model: bool = False  # a checkpoint of any image model, or a part of one
    later: bool = False  # the project itself cannot load it yet


def _channels(number: int) -> Test:
    """Return a test that a checkpoint's UNet in LDM naming has `number` input channels; a missing layer counts as 4."""
    return Test(lambda e: (*e.shapes.get(_FIRST_LAYER, ()), 4, 4)[1] == number)


_adapter = Test(lambda e: bool(e.shapes) and all(map(_ADAPTER_KEY.fullmatch, e.shapes)))
_has_temporal_names = temporal | has("motion_modules", "temporal_attentions", "temporal_transformer")
_ldm = Test(lambda e: any(key.startswith("model.diffusion_model.input_blocks.") for key in e.shapes))
# A whole checkpoint in LDM naming: 90 % of its keys begin like this. The rest may be stray keys of other kinds.
_whole = _ldm & beginning("model.", "model_ema.", "first_stage_model.", "cond_stage_model.", "conditioner.", share=0.9)
_rife = (
    shape("block0.conv0.0.0.weight", lambda s: len(s) == 4) & has("block1.conv0.")
    & has("block0.lastconv.", "block0.conv1.")  # conv1: version 3
)
_film = (
    shape("extract.extract_sublevels.convs.0.0.0.weight", lambda s: len(s) == 4)
    & has("predict_flow._predictor._convs.") & has("fuse.output_conv.")
)
# Real-ESRGAN's small network, ESRGAN in both namings, and SwinIR with its kin; there are many others.
_upscaler = (
    shape("body.0.weight", lambda s: len(s) == 4) & shape("body.1.weight", lambda s: len(s) == 1)
    | has("RDB1.conv1.", "rdb1.conv1.", "RRDB_trunk.")
    | shape("conv_first.weight", lambda s: len(s) == 4) & has("layers.0.") & has("upsample.", "conv_last.")
)
_embedding = Test(lambda e: bool(e.shapes) and e.shapes.keys() <= {"emb_params", "clip_l", "clip_g"})

KINDS: tuple[Kind, ...] = (
    # Relatives of motion modules. Some contain temporal layers, so they come before the motion module.
    Kind("CameraCtrl", "a CameraCtrl checkpoint",
         has("pose_encoder", "encoder_down_conv_blocks.", "qkv_merge.", "q_merge."), later=True),
    Kind("SparseCtrl scribble", "a SparseCtrl scribble checkpoint",
         temporal & has("controlnet_cond_embedding.conv_in."), later=True),
    Kind("SparseCtrl RGB", "a SparseCtrl RGB checkpoint",
         temporal & has("controlnet_cond_embedding.weight"), later=True),
    Kind(MOTION_LORA, "a motion LoRA", lora & _has_temporal_names),
    Kind("AnimateLCM-I2V", "an AnimateLCM-I2V checkpoint", temporal & has("img_encoder."), later=True),
    Kind("PIA", "a PIA checkpoint",
         temporal & shape("conv_in.weight", lambda s: len(s) == 4 and s[1] == 9), later=True),
    Kind("FancyVideo", "a FancyVideo checkpoint", temporal & has("fps_embedding.", "motion_embedding."), later=True),
    Kind(MOTION_MODULE, "a motion module", temporal),
    # Additions to image models.
    Kind(DOMAIN_ADAPTER, "a domain adapter", _adapter),
    Kind(IMAGE_LORA, "an image LoRA", lora),
    Kind("ControlNet", "a ControlNet", has("control_model.", "controlnet_cond_embedding.", "input_hint_block.")),
    Kind("embedding", "a textual inversion embedding", _embedding),
    Kind(RIFE, "RIFE's network for frame interpolation", _rife),
    Kind(FILM, "FILM's network for frame interpolation", _film),
    Kind(UPSCALER, "an upscaler model", _upscaler),
    # Image models; those with distinctive keys come first.
    Kind("SDXL checkpoint", "an SDXL checkpoint", has("conditioner.embedders."), is_image_model=True),
    Kind("SD2 checkpoint", "an SD2 checkpoint", has("cond_stage_model.model."), is_image_model=True),
    Kind("SD3 checkpoint", "an SD3 checkpoint", has("joint_blocks."), is_image_model=True),
    Kind("Flux checkpoint", "a Flux checkpoint", has("double_blocks."), is_image_model=True),
    Kind(CHECKPOINT, "an SD1.5 checkpoint", _ldm & _channels(4), is_image_model=True),
    Kind("inpainting checkpoint", "an inpainting checkpoint (9 input channels)",
         _ldm & _channels(9), is_image_model=True),
    Kind("editing checkpoint", "an image-editing (InstructPix2Pix) or upscaling checkpoint (8 input channels)",
         _ldm & _channels(8), is_image_model=True),
    Kind("another checkpoint", "a checkpoint with an unusual number of input channels", _ldm, is_image_model=True),
    Kind("VAE", "a VAE", has("decoder.up", "encoder.conv_in.", "decoder.conv_in.", "first_stage_model."),
         is_image_model=True),
    Kind("diffusers part", "one part of an image model in diffusers' naming",
         has("down_blocks.0.resnets.", "down_blocks.0.attentions."), is_image_model=True),
    Kind("diffusion model", "an image model without its other parts",
         has("diffusion_model.", "input_blocks.", "down_blocks.0."), is_image_model=True),
)  # fmt: skip


def kind_of(shapes: Mapping[str, Shape]) -> Kind | None:
    """Return the kind of a file with these shapes by key, in any naming; None if no entry of KINDS matches."""
    evidence = Evidence(shapes)
    whole = _whole(evidence)
    return next((kind for kind in KINDS if (kind.is_image_model or not whole) and kind.matches(evidence)), None)
