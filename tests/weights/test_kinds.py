"""Detection of every kind of weight file, from models built here and from published tensor names."""
from __future__ import annotations

import lora_files_by_hand as by_hand
import pytest
import torch
from tiny_models import WIDTHS

from animatediff.motion import FAMILIES, build
from animatediff.weights.kinds import KINDS, kind_of

LDM = "model.diffusion_model.input_blocks.0.0.weight"
NAMES = {
    "SDXL checkpoint": {LDM: (320, 4, 3, 3), "conditioner.embedders.0.transformer.x": (4,)},
    "SD2 checkpoint": {LDM: (320, 4, 3, 3), "cond_stage_model.model.ln_final.weight": (4,)},
    "SD3 checkpoint": {"model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight": (4,)},
    "Flux checkpoint": {"double_blocks.0.img_attn.qkv.weight": (4,)},
    "SD1.5 checkpoint": {LDM: (320, 4, 3, 3), "first_stage_model.encoder.conv_in.weight": (4,)},
    "inpainting checkpoint": {LDM: (320, 9, 3, 3)}, "editing checkpoint": {LDM: (320, 8, 3, 3)},
    "another checkpoint": {LDM: (320, 5, 3, 3)},
    "ControlNet": {"control_model.input_hint_block.0.weight": (4,)}, "embedding": {"emb_params": (2, 768)},
    "VAE": {"decoder.up_blocks.0.resnets.0.conv1.weight": (4,), "encoder.conv_in.weight": (4,)},
    "image LoRA": {"lora_unet_down_blocks_0_attentions_0_proj_in.lora_up.weight": (4, 4)},
    "CameraCtrl": {"pose_encoder.encoder_conv_in.weight": (4,)},
    "diffusion model": {"diffusion_model.time_embed.0.weight": (4, 4)},
}  # fmt: skip


def shapes(state) -> dict:
    return {key: tuple(value.shape) for key, value in state.items()}


@pytest.mark.parametrize("name", NAMES)
def test_published_tensor_names(name):
    assert kind_of(NAMES[name]).name == name


@pytest.mark.parametrize("family", FAMILIES)
def test_motion_modules_and_their_relatives(family):
    widths = WIDTHS if FAMILIES[family].base == "SD1.5" else WIDTHS[:3]
    module = shapes(build(widths, family).state_dict())
    assert kind_of(module).name == "motion module"
    for relative, more in (("PIA", {"conv_in.weight": (32, 9, 3, 3)}), ("FancyVideo", {"fps_embedding.x": (4,)}),
                           ("AnimateLCM-I2V", {"img_encoder.x": (4,)}),
                           ("SparseCtrl RGB", {"controlnet_cond_embedding.weight": (4,)}),
                           ("SparseCtrl scribble", {"controlnet_cond_embedding.conv_in.weight": (4,)})):
        assert kind_of(module | more).name == relative


@pytest.mark.parametrize("naming", [by_hand.original, by_hand.diffusers, by_hand.peft, by_hand.webui])
def test_motion_loras_in_every_naming(naming):
    assert kind_of(shapes(naming(by_hand.pairs(WIDTHS)))).name == "motion LoRA"


def test_diffusers_networks():
    from diffusers import AutoencoderKL, UNet2DConditionModel

    with torch.device("meta"):
        unet = UNet2DConditionModel(block_out_channels=WIDTHS, cross_attention_dim=16, attention_head_dim=4)
        vae = AutoencoderKL(block_out_channels=(32,), norm_num_groups=8)
    assert kind_of(shapes(by_hand.adapter(unet))).name == "domain adapter"
    assert kind_of(shapes(unet.state_dict())).name == "diffusers part"
    assert kind_of(shapes(vae.state_dict())).name == "VAE"


def test_unknown_files_have_no_kind():
    assert kind_of({}) is None and kind_of({"layer.weight": (4,)}) is None


def test_names_are_unique():
    assert len({kind.name for kind in KINDS}) == len(KINDS)
