"""Loading of checkpoints without network access: equal outputs from all containers, clear errors for other files."""
from __future__ import annotations

import gzip
import json
import os
import pickle
import shutil
import socket
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from animatediff.engine import checkpoint, keys, tokenizer
from animatediff.errors import ModelError

CLIP = 49408


def networks(rows: int = CLIP, heads: int = 8, channels: int = 4, linear: bool = False, context: int = 16):
    """Return UNet, VAE and text encoder like SD1.5's, but small."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        in_channels=channels, block_out_channels=(32, 64), down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), layers_per_block=1, cross_attention_dim=context,
        attention_head_dim=heads, use_linear_projection=linear,
    )  # fmt: skip
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(32, 32), layers_per_block=1, sample_size=32, scaling_factor=0.18215,
    )  # fmt: skip
    config = CLIPTextConfig(
        vocab_size=rows, hidden_size=context, intermediate_size=32, num_hidden_layers=2, num_attention_heads=1,
        bos_token_id=rows - 2, eos_token_id=rows - 1,
    )  # fmt: skip
    text = CLIPTextModel(config)
    return unet.eval(), vae.eval(), text.eval()


def single_file(parts) -> dict[str, torch.Tensor]:
    unet, vae, text = parts
    return (
        keys.unet_to_ldm(unet.state_dict()) | keys.vae_to_ldm(vae.state_dict()) | keys.text_to_ldm(text.state_dict())
    )


@torch.no_grad()
def outputs(unet, vae, text, ids=(3, 5)) -> list[torch.Tensor]:
    latents = torch.linspace(-1, 1, 4 * 8 * 8).view(1, 4, 8, 8)
    tokens = torch.tensor([[*ids, text.config.eos_token_id]])
    states = text(input_ids=tokens).last_hidden_state
    picture = vae.decode(latents).sample
    return [unet(latents, 500, states).sample, picture, vae.encode(picture).latent_dist.mean, states]


def same(loaded: checkpoint.Components, parts, atol: float = 0) -> None:
    torch.testing.assert_close(outputs(loaded.unet, loaded.vae, loaded.text.model), outputs(*parts), rtol=0, atol=atol)


@pytest.fixture(scope="module")
def parts():
    return networks()


@pytest.fixture(scope="module")
def state(parts):
    return single_file(parts)


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_safetensors_without_sidecar_is_sd15(tmp_path, parts, state):
    save_file(state, tmp_path / "model.safetensors")
    loaded = checkpoint.load(tmp_path / "model.safetensors")
    same(loaded, parts)
    assert (loaded.name, loaded.prediction, loaded.vae.config.scaling_factor) == ("model", "epsilon", 0.18215)
    betas = loaded.betas
    assert (betas.kind, betas.start, betas.end, betas.steps) == ("scaled_linear", 0.00085, 0.012, 1000)
    assert loaded.text.tokenizer is tokenizer.shipped()
    for module in (loaded.unet, loaded.vae, loaded.text.model):
        assert not module.training and not any(p.requires_grad or p.is_meta for p in module.parameters())
        assert not any(b.is_meta for b in module.buffers())
    cond, uncond = loaded.text.encode(["a cat"], ["a dog, " * 40])
    assert cond.shape == uncond.shape == (1, 154, 16)


class ModelCheckpoint:
    """Stands for the training callback that original SD1.x files refer to."""


ModelCheckpoint.__module__ = "pytorch_lightning.callbacks.model_checkpoint"


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "before torch 1.6"])
def test_ckpt_with_training_state_loads(tmp_path, parts, state, legacy, monkeypatch):
    names = ["pytorch_lightning", "pytorch_lightning.callbacks", ModelCheckpoint.__module__]
    for name in names:
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules[names[-1]].ModelCheckpoint = ModelCheckpoint
    content = {
        "epoch": 3,
        "callbacks": {ModelCheckpoint: {"best_model_score": np.float64(0.25)}},
        "state_dict": state
        | {"model_ema.decay": torch.tensor(0.9), "model_ema.diffusion_modelout2bias": torch.zeros(4)}
        | {"cond_stage_model.transformer.text_model.embeddings.position_ids": torch.arange(77)[None]},
    }
    torch.save(content, tmp_path / "model.ckpt", _use_new_zipfile_serialization=not legacy)
    for name in names:
        monkeypatch.delitem(sys.modules, name)
    same(checkpoint.load(tmp_path / "model.ckpt"), parts)


def test_safetensors_named_ckpt_loads(tmp_path, parts, state):
    save_file(state, tmp_path / "model.ckpt")
    same(checkpoint.load(tmp_path / "model.ckpt"), parts)


def test_half_precision_files_and_dtypes(tmp_path, state):
    save_file({k: v.half() for k, v in state.items()}, tmp_path / "model.safetensors")
    full = checkpoint.load(tmp_path / "model.safetensors")
    assert full.unet.dtype == full.vae.dtype == full.text.dtype == torch.float32
    key = "conv_in.weight"
    torch.testing.assert_close(full.unet.state_dict()[key], state[f"{keys.UNET}input_blocks.0.0.weight"].half().float())
    half = checkpoint.load(tmp_path / "model.safetensors", dtype=torch.bfloat16)
    assert half.unet.dtype == half.vae.dtype == half.text.dtype == torch.bfloat16
    assert half.text.encode(["(a:1.2)"], [""])[0].dtype == torch.bfloat16


def test_sidecar_sets_what_tensors_do_not_determine(tmp_path):
    own = networks(rows=300 + 514, heads=2)
    save_file(single_file(own), tmp_path / "small.safetensors")
    symbols = tokenizer.byte_symbols()
    names = [*symbols, *(s + "</w>" for s in symbols), *(f"#{i}" for i in range(300)), tokenizer.START, tokenizer.END]
    (tmp_path / "clip").mkdir()
    (tmp_path / "clip" / "vocab.json").write_text(json.dumps({n: i for i, n in enumerate(names)}))
    (tmp_path / "clip" / "merges.txt").write_text("#version: 0.2\n")
    (tmp_path / "clip" / "config.json").write_text(json.dumps({"num_attention_heads": 4, "hidden_act": "gelu"}))
    params = {
        "linear_start": 0.001, "linear_end": 0.02, "parameterization": "v", "scale_factor": 0.5,
        "unet_config": {"params": {"num_heads": 2, "image_size": 16}},
        "cond_stage_config": {"params": {"version": "clip"}},
    }  # fmt: skip
    (tmp_path / "small.yaml").write_text(yaml.safe_dump({"model": {"params": params}}))
    loaded = checkpoint.load(tmp_path / "small.safetensors")
    config = CLIPTextConfig(**own[2].config.to_dict() | {"num_attention_heads": 4, "hidden_act": "gelu"})
    text = CLIPTextModel(config).eval()
    text.load_state_dict(own[2].state_dict())
    same(loaded, (own[0], own[1], text))
    assert (loaded.prediction, loaded.betas.start, loaded.betas.end) == ("v_prediction", 0.001, 0.02)
    assert loaded.vae.config.scaling_factor == 0.5 and loaded.text.tokenizer.end == 813
    ids = loaded.text.tokenizer(["a,"])[0]
    assert [names[i] for i in ids] == ["a</w>", ",</w>"]

    params["unet_config"]["params"]["num_heads"] = 4
    (tmp_path / "small.yaml").write_text(yaml.safe_dump({"model": {"params": params}}))
    four = checkpoint.load(tmp_path / "small.safetensors")
    assert not torch.equal(outputs(four.unet, four.vae, text)[0], outputs(own[0], own[1], text)[0])

    (tmp_path / "small.yaml").write_text("model: [unclosed")
    with pytest.raises(ModelError, match="small.yaml.*not valid YAML"):
        checkpoint.load(tmp_path / "small.safetensors")
    (tmp_path / "small.yaml").unlink()
    with pytest.raises(ModelError, match="814 tokens.*cond_stage_config.params.version"):
        checkpoint.load(tmp_path / "small.safetensors")


def test_configuration_parity_with_diffusers_sd15():
    with torch.device("meta"):
        unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(128, 256, 512, 512), layers_per_block=2, sample_size=512,
        )  # fmt: skip
    for found, model in (
        (checkpoint.unet_config(unet.state_dict()), unet),
        (checkpoint.vae_config(vae.state_dict()), vae),
    ):
        plain = {k: list(v) if isinstance(v, tuple) else v for k, v in found.items()}
        expected = {k: list(model.config[k]) if isinstance(model.config[k], tuple) else model.config[k] for k in found}
        assert plain == expected


def test_linear_projection_and_fixed_head_width(tmp_path):
    own = networks(linear=True, heads=(4, 8))
    save_file(single_file(own), tmp_path / "m.safetensors")
    params = {"unet_config": {"params": {"num_head_channels": 8}}}
    (tmp_path / "m.yaml").write_text(yaml.safe_dump({"model": {"params": params}}))
    same(checkpoint.load(tmp_path / "m.safetensors"), own)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, parts):
    path = tmp_path_factory.mktemp("diffusers") / "sd"
    pairs = [tuple(line.split()) for line in gzip.decompress(tokenizer._MERGES.read_bytes()).decode().splitlines()]
    symbols = tokenizer.byte_symbols()
    names = [*symbols, *(s + "</w>" for s in symbols), *("".join(p) for p in pairs), tokenizer.START, tokenizer.END]
    clip = CLIPTokenizer(vocab={n: i for i, n in enumerate(names)}, merges=pairs)
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type="v_prediction"
    )
    unet, vae, text = parts
    StableDiffusionPipeline(
        unet=unet, vae=vae, text_encoder=text, tokenizer=clip, scheduler=scheduler, safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
    ).save_pretrained(path)  # fmt: skip
    return path


def test_diffusers_folder_loads(folder, parts):
    loaded = checkpoint.load(folder)
    same(loaded, parts)
    assert (loaded.name, loaded.prediction, loaded.betas.kind) == ("sd", "v_prediction", "scaled_linear")
    assert loaded.text.tokenizer(["a photo of a cat"]) == [[320, 1125, 539, 320, 2368]]
    half = checkpoint.load(folder, dtype=torch.float16)
    assert half.unet.dtype == half.vae.dtype == half.text.dtype == torch.float16


def test_diffusers_folder_with_half_precision_files_only_loads(folder, parts, tmp_path):
    shutil.copytree(folder, tmp_path / "sd")
    for file in (tmp_path / "sd").rglob("*.safetensors"):
        file.rename(file.with_name(file.name.replace(".safetensors", ".fp16.safetensors")))
    same(checkpoint.load(tmp_path / "sd"), parts)


def test_folder_refusals(folder, tmp_path):
    with pytest.raises(ModelError, match="no model_index.json"):
        checkpoint.load(tmp_path)
    (tmp_path / "model_index.json").write_text('{"_class_name": "StableDiffusionXLPipeline"}')
    with pytest.raises(ModelError, match="StableDiffusionXLPipeline.*not supported yet"):
        checkpoint.load(tmp_path)
    (tmp_path / "model_index.json").write_text((folder / "model_index.json").read_text())
    with pytest.raises(ModelError, match="the unet cannot be loaded"):
        checkpoint.load(tmp_path)


REFUSED = {
    "motion module": ({"down_blocks.0.motion_modules.0.temporal_transformer.norm.weight": (4,)}, "is a motion module"),
    "LoRA": ({"lora_unet_down_blocks_0_attentions_0.lora_down.weight": (4, 4)}, "is an image LoRA"),
    "LoRA of diffusers": ({"unet.down_blocks.0.attentions.0.to_k.lora_A.weight": (4, 4)}, "is an image LoRA"),
    "ControlNet": ({"control_model.input_hint_block.0.weight": (4,)}, "is a ControlNet"),
    "embedding": ({"emb_params": (2, 768)}, "is a textual inversion"),
    "VAE": ({"encoder.conv_in.weight": (4,), "decoder.conv_in.weight": (4,)}, "is a VAE"),
    "part": ({"down_blocks.0.resnets.0.conv1.weight": (4,)}, "one part of an image model"),
    "SDXL": ({"conditioner.embedders.0.transformer.x": (4,), "model.diffusion_model.input_blocks.0.0.weight": (1, 4)},
             "SDXL checkpoint, which is not supported on the command line yet"),
    "SD2": ({"cond_stage_model.model.ln_final.weight": (4,)}, "SD2 checkpoint"),
    "SD3": ({"model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight": (4,)}, "SD3 checkpoint"),
    "Flux": ({"double_blocks.0.img_attn.qkv.weight": (4,)}, "Flux checkpoint"),
    "anything": ({"layer.weight": (4,)}, "is not a Stable Diffusion checkpoint"),
    "nothing": ({}, "is not a Stable Diffusion checkpoint"),
    "inpainting": ({"model.diffusion_model.input_blocks.0.0.weight": (8, 9, 3, 3)}, "inpainting.*9 input channels"),
    "editing": ({"model.diffusion_model.input_blocks.0.0.weight": (8, 8, 3, 3)}, "8 input channels"),
    "UNet alone": ({"model.diffusion_model.input_blocks.0.0.weight": (8, 4, 3, 3)}, "first_stage_model.*no VAE"),
}  # fmt: skip


@pytest.mark.parametrize("container", ["safetensors", "ckpt"])
@pytest.mark.parametrize("case", REFUSED)
def test_errors_say_what_other_files_are(tmp_path, case, container):
    shapes, message = REFUSED[case]
    if case == "UNet alone":
        tensors = keys.unet_to_ldm(networks()[0].state_dict())
    else:
        tensors = {key: torch.zeros(shape) for key, shape in shapes.items()}
    path = tmp_path / f"model.{container}"
    save_file(tensors, path) if container == "safetensors" else torch.save(tensors, path)
    with pytest.raises(ModelError, match=message) as caught:
        checkpoint.load(path)
    assert str(path) in caught.value.where and caught.value.remedy and caught.value.exit_code == 3


def test_missing_and_damaged_files(tmp_path, state):
    with pytest.raises(ModelError, match="does not exist"):
        checkpoint.load(tmp_path / "none.safetensors")
    small = {k: v for k, v in state.items() if ".out." in k or "input_blocks.0" in k}
    for name, save in (("a.safetensors", save_file), ("a.ckpt", torch.save)):
        save(small, tmp_path / name)
        whole = (tmp_path / name).read_bytes()
        for size in (0, 5, 40, len(whole) // 2, len(whole) - 3):
            (tmp_path / name).write_bytes(whole[:size])
            with pytest.raises(ModelError, match="damaged|is empty"):
                checkpoint.load(tmp_path / name)
    for text, message in (("version https://git-lfs.github.com/spec/v1\n", "Git LFS"), ("<!DOCTYPE html>", "web page")):
        (tmp_path / "b.safetensors").write_text(text)
        with pytest.raises(ModelError, match=message):
            checkpoint.load(tmp_path / "b.safetensors")


class Dangerous:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("bare", [False, True], ids=["in a torch file", "bare pickle"])
def test_pickled_code_does_not_run(tmp_path, bare):
    content = {"state_dict": Dangerous(tmp_path / "ran")}
    path = tmp_path / "bad.ckpt"
    path.write_bytes(pickle.dumps(content)) if bare else torch.save(content, path)
    with pytest.raises(ModelError, match="pickled Python objects .*mkdir.*can run code"):
        checkpoint.load(path)
    assert not (tmp_path / "ran").exists()


def test_incomplete_and_odd_checkpoints(tmp_path, state):
    def refused(tensors, message):
        save_file(tensors, tmp_path / "m.safetensors")
        with pytest.raises(ModelError, match=message):
            checkpoint.load(tmp_path / "m.safetensors")

    without = f"{keys.UNET}middle_block.0.in_layers.2.bias"
    refused({k: v for k, v in state.items() if k != without}, "UNet lacks mid_block.resnets.0.conv1.bias")
    odd = f"{keys.UNET}out.2.weight"
    refused(state | {odd: torch.zeros(4, 8, 3, 3)}, r"conv_out.weight of the UNet is \(4, 8, 3, 3\)")
    refused(state | {f"{keys.UNET}adapter.weight": torch.zeros(2)}, "adapter.weight.*does not have")
    wide = single_file((networks(context=24)[0], *networks()[1:]))
    refused(wide, "text of width 24 and the text encoder gives 16")


def test_torch_file_named_safetensors_loads(tmp_path, parts, state):
    torch.save(state, tmp_path / "model.safetensors")
    same(checkpoint.load(tmp_path / "model.safetensors"), parts)
