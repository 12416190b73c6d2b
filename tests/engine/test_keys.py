"""State dict keys, compared with diffusers' single-file converter and a hand-written list, and by round trip."""
from __future__ import annotations

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders.single_file_utils import (
    convert_ldm_clip_checkpoint,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
)
from transformers import CLIPTextConfig, CLIPTextModel

from animatediff.engine import keys
from animatediff.errors import ModelError


def unet(attended: str = "110", layers: int = 2, width: int = 8, linear: bool = False) -> UNet2DConditionModel:
    down = tuple(f"{'CrossAttn' if a == '1' else ''}DownBlock2D" for a in attended)
    up = tuple(f"{'CrossAttn' if a == '1' else ''}UpBlock2D" for a in reversed(attended))
    return UNet2DConditionModel(
        block_out_channels=tuple(width * (i + 1) for i in range(len(attended))), down_block_types=down,
        up_block_types=up, layers_per_block=layers, cross_attention_dim=12, attention_head_dim=2, norm_num_groups=4,
        use_linear_projection=linear,
    )  # fmt: skip


def vae(levels: int = 3, layers: int = 1) -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels, up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=tuple(4 * (i + 1) for i in range(levels)), layers_per_block=layers, norm_num_groups=4,
    )  # fmt: skip


def text() -> CLIPTextModel:
    config = CLIPTextConfig(
        vocab_size=60, hidden_size=8, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
        bos_token_id=58, eos_token_id=59,
    )  # fmt: skip
    return CLIPTextModel(config)


def same(left: dict, right: dict) -> None:
    assert left.keys() == right.keys()
    assert [k for k in left if left[k].shape != right[k].shape or not torch.equal(left[k], right[k])] == []


UNETS = [
    dict(attended="1110", layers=2), dict(attended="0110", layers=2), dict(attended="10", layers=1),
    dict(attended="11", layers=3), dict(attended="1", layers=2), dict(attended="010", layers=2, linear=True),
]  # fmt: skip


@pytest.mark.parametrize("shape", UNETS, ids=str)
def test_unet_parity_with_diffusers_converter_and_round_trip(shape):
    model = unet(**shape)
    ours = keys.unet_to_ldm(model.state_dict())
    same(convert_ldm_unet_checkpoint(ours, {"layers_per_block": shape["layers"]}), model.state_dict())
    same(keys.unet_from_ldm(ours), model.state_dict())


def test_unet_keys_of_a_real_sd15_file():
    """The list has keys and shapes of v1-5-pruned-emaonly.safetensors, written by hand."""
    with torch.device("meta"):
        model = UNet2DConditionModel(cross_attention_dim=768, attention_head_dim=8)
    ours = {k: tuple(v.shape) for k, v in keys.unet_to_ldm(model.state_dict()).items()}
    landmarks = {
        "input_blocks.0.0.weight": (320, 4, 3, 3),
        "time_embed.2.weight": (1280, 1280),
        "input_blocks.1.1.proj_in.weight": (320, 320, 1, 1),
        "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (320, 768),
        "input_blocks.3.0.op.weight": (320, 320, 3, 3),
        "input_blocks.4.0.skip_connection.weight": (640, 320, 1, 1),
        "input_blocks.11.0.out_layers.3.weight": (1280, 1280, 3, 3),
        "middle_block.1.transformer_blocks.0.ff.net.0.proj.weight": (10240, 1280),
        "middle_block.2.emb_layers.1.weight": (1280, 1280),
        "output_blocks.2.1.conv.weight": (1280, 1280, 3, 3),
        "output_blocks.3.1.norm.weight": (1280,),
        "output_blocks.5.2.conv.weight": (1280, 1280, 3, 3),
        "output_blocks.8.2.conv.weight": (640, 640, 3, 3),
        "output_blocks.11.1.proj_out.weight": (320, 320, 1, 1),
        "out.2.bias": (4,),
    }
    assert {k: ours[f"model.diffusion_model.{k}"] for k in landmarks} == landmarks
    assert len(ours) == 686 and not any(".op." in k for k in ours if "input_blocks.11" in k)


def test_unet_with_unequal_layers_per_level_round_trip():
    model = UNet2DConditionModel(
        block_out_channels=(8, 8, 8), down_block_types=("CrossAttnDownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D", "CrossAttnUpBlock2D"), layers_per_block=(1, 3, 2),
        cross_attention_dim=12, attention_head_dim=2, norm_num_groups=4,
    )  # fmt: skip
    ours = keys.unet_to_ldm(model.state_dict())
    assert len({".".join(k.split(".")[2:4]) for k in ours if "input_blocks" in k}) == 1 + 1 + 3 + 2 + 2
    assert len({".".join(k.split(".")[2:4]) for k in ours if "output_blocks" in k}) == 3 + 4 + 2
    same(keys.unet_from_ldm(ours), model.state_dict())


@pytest.mark.parametrize("levels,layers", [(4, 2), (4, 1), (2, 3), (1, 1)])
def test_vae_parity_with_diffusers_converter_and_round_trip(levels, layers):
    model = vae(levels, layers)
    ours = keys.vae_to_ldm(model.state_dict())
    config = {"down_block_types": ["x"] * levels, "up_block_types": ["x"] * levels}
    same(convert_ldm_vae_checkpoint(ours, config), model.state_dict())
    same(keys.vae_from_ldm(ours), model.state_dict())
    width = 4 * levels
    assert ours["first_stage_model.encoder.mid.attn_1.q.weight"].shape == (width, width, 1, 1)
    assert ours["first_stage_model.decoder.mid.attn_1.norm.weight"].shape == (width,)


def test_vae_old_attention_names_give_the_same_keys():
    state = vae().state_dict()
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    renamed = {}
    for key, value in state.items():
        for new, ancient in old.items():
            key = key.replace(f".attentions.0.{new}.", f".attentions.0.{ancient}.")
        renamed[key] = value
    assert renamed.keys() != state.keys()
    same(keys.vae_to_ldm(renamed), keys.vae_to_ldm(state))


def test_separate_vae_file_has_no_prefix():
    model = vae()
    bare = {k.removeprefix(keys.VAE): v for k, v in keys.vae_to_ldm(model.state_dict()).items()}
    same(keys.vae_from_ldm(bare | {"loss.logvar": torch.zeros(())}, prefix=""), model.state_dict())


def test_text_parity_with_diffusers_converter_and_round_trip():
    state = {k.removeprefix("text_model."): v for k, v in text().state_dict().items()}
    ours = keys.text_to_ldm(state)
    assert "cond_stage_model.transformer.text_model.encoder.layers.1.mlp.fc2.weight" in ours
    converted = convert_ldm_clip_checkpoint(ours)
    same({k.removeprefix("text_model."): v for k, v in converted.items()}, state)
    same(keys.text_from_ldm(ours), state)
    same(keys.text_to_ldm({f"text_model.{k}": v for k, v in state.items()}), ours)
    short = {k.replace(".text_model.", "."): v for k, v in ours.items()}
    same(keys.text_from_ldm(short | {"cond_stage_model.transformer.embeddings.position_ids": torch.zeros(1)}), state)


def test_parts_merge_into_one_file_and_other_tensors_are_ignored():
    models = unet(), vae(), text()
    parts = [f(m.state_dict()) for f, m in zip((keys.unet_to_ldm, keys.vae_to_ldm, keys.text_to_ldm), models)]
    file = parts[0] | parts[1] | parts[2]
    assert len(file) == sum(map(len, parts))
    file |= {"model_ema.diffusion_modelout0weight": torch.zeros(2), "alphas_cumprod": torch.zeros(3)}
    same(keys.unet_from_ldm(file), models[0].state_dict())
    same(keys.vae_from_ldm(file), models[1].state_dict())


def test_unknown_tensor_is_named():
    file = keys.unet_to_ldm(unet().state_dict())
    with pytest.raises(ModelError, match="middle_block.7.weight"):
        keys.unet_from_ldm(file | {"model.diffusion_model.middle_block.7.weight": torch.zeros(1)})
    with pytest.raises(ModelError, match="no VAE"):
        keys.vae_from_ldm(file)
