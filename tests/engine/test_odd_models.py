"""Damaged and unusual image models: errors name the file, and the tensor with NaN or infinity."""
from __future__ import annotations

import json
import re
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import write_checkpoint, write_module

from animatediff.engine import checkpoint, keys
from animatediff.engine.pipeline import Pipeline
from animatediff.errors import ModelError
from animatediff.weights.kinds import CHECKPOINT, kind_of


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, whole):
    """The same model as a diffusers folder."""
    path = tmp_path_factory.mktemp("folder") / "sd"
    parts = checkpoint.load(whole)
    parts.unet.save_pretrained(path / "unet")
    parts.vae.save_pretrained(path / "vae")
    parts.text.model.save_pretrained(path / "text_encoder")
    shutil.copytree(whole.parent / "clip", path / "tokenizer", ignore=shutil.ignore_patterns("config.json"))
    (path / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    return path


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "sd")


def changed(whole, path, change):
    """Write a copy of the checkpoint with tensors changed by `change(tensors)`, and return its path."""
    tensors = load_file(whole)
    change(tensors)
    save_file(tensors, path) if path.suffix == ".safetensors" else torch.save({"state_dict": tensors}, path)
    shutil.copy(whole.with_suffix(".yaml"), path.with_suffix(".yaml"))
    if not (path.parent / "clip").exists():
        shutil.copytree(whole.parent / "clip", path.parent / "clip")
    return path


def refused(path, *words, **load):
    with pytest.raises(ModelError) as caught:
        checkpoint.load(path, **load)
    said = str(caught.value)
    assert all(re.search(word, said) for word in words), said
    assert caught.value.remedy and str(path) in said and "huggingface" not in said
    return said


TENSORS = {"UNet": "model.diffusion_model.middle_block.0.in_layers.2.bias",
           "VAE": "first_stage_model.decoder.mid.attn_1.q.weight",
           "text encoder": "cond_stage_model.transformer.text_model.encoder.layers.1.mlp.fc1.bias"}


@pytest.mark.parametrize("part, value, word, suffix, dtype", [
    ("UNet", float("nan"), "NaN", "safetensors", torch.float32), ("VAE", float("nan"), "NaN", "ckpt", torch.half),
    ("text encoder", -float("inf"), "infinity", "ckpt", torch.float32),
])  # fmt: skip
def test_nan_and_infinity_are_named(part, value, word, suffix, dtype, whole, tmp_path):
    key = TENSORS[part]
    path = changed(whole, tmp_path / f"bad.{suffix}", lambda tensors: tensors[key].view(-1)[-1:].fill_(value))
    refused(path, word, re.escape(key), dtype=dtype)


@pytest.mark.parametrize("part, ending", [("unet", "bin"), ("vae", "safetensors"), ("text_encoder", "bin")])
def test_nan_in_a_folder_is_named(part, ending, copy):
    file = next((copy / part).glob("*.safetensors"))
    tensors = load_file(file)
    key = sorted(tensors)[3]
    tensors[key].view(-1)[0] = float("nan")
    file.unlink()
    if ending == "bin":
        torch.save(tensors, copy / part / ("pytorch_model.bin" if part == "text_encoder" else
                                           "diffusion_pytorch_model.bin"))
    else:
        save_file(tensors, file)
    refused(copy, "NaN", re.escape(key), rf"model\.{ending}")


def test_number_too_large_for_half_precision(whole, tmp_path):
    key = TENSORS["UNet"]
    path = changed(whole, tmp_path / "large.safetensors", lambda tensors: tensors[key].view(-1)[0].fill_(1e5))
    refused(path, f"{re.escape(key)}.* too large for float16", "bf16", dtype=torch.float16)
    assert checkpoint.load(path, dtype=torch.bfloat16).dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.int8, torch.complex64])
def test_dtypes_that_are_not_for_weights(dtype, whole, tmp_path):
    key = TENSORS["UNet"]
    path = changed(whole, tmp_path / "odd.safetensors", lambda tensors: tensors.update({key: tensors[key].to(dtype)}))
    refused(path, re.escape(key), str(dtype).removeprefix("torch."))


STRAYS = ["lora_unet_down_blocks_0_attentions_0_proj_in.lora_up.weight", "emb_params", "pose_encoder.weight",
          "down_blocks.0.motion_modules.0.temporal_transformer.norm.weight", "controlnet_cond_embedding.weight",
          "control_model.input_hint_block.0.weight"]


@pytest.mark.parametrize("stray", STRAYS)
def test_stray_tensor_does_not_change_the_kind(stray, whole, tmp_path):
    shapes = {key: tuple(tensor.shape) for key, tensor in load_file(whole).items()}
    assert kind_of(shapes).name == kind_of(shapes | {stray: (4, 4)}).name == CHECKPOINT


def test_checkpoint_with_a_stray_tensor_loads(whole, tmp_path):
    path = changed(whole, tmp_path / "whole.safetensors", lambda tensors: tensors.update({STRAYS[0]: torch.ones(4)}))
    key = f"{keys.UNET}input_blocks.0.0.weight"
    assert torch.equal(checkpoint.load(path).unet.conv_in.weight, load_file(whole)[key])


SIDES = {"no channels": ("model.diffusion_model.input_blocks.0.0.weight", ()),
         "a UNet of one number": ("model.diffusion_model.out.2.weight", (4,)),
         "a VAE of one number": ("first_stage_model.encoder.conv_in.weight", ()),
         "tokens without width": (f"{keys.TEXT}embeddings.token_embedding.weight", (514, 0)),
         "flat tokens": (f"{keys.TEXT}embeddings.token_embedding.weight", (514,)),
         "no positions": (f"{keys.TEXT}embeddings.position_embedding.weight", (0, 16)),
         "odd widths": ("model.diffusion_model.input_blocks.1.0.in_layers.2.weight", (33, 32, 3, 3))}


@pytest.mark.parametrize("case", SIDES)
def test_odd_shapes(case, whole, tmp_path):
    key, shape = SIDES[case]
    path = changed(whole, tmp_path / "odd.safetensors", lambda tensors: tensors.update({key: torch.zeros(shape)}))
    assert "expected" not in refused(path) or case == "a UNet of one number"


@pytest.mark.parametrize("part, end", [("UNet", 0), ("UNet", 12), ("VAE", 2), ("text encoder", 2)])
def test_incomplete_networks(part, end, whole, tmp_path):
    """The first tensors in the order of their names are missing."""
    prefix = ".".join(TENSORS[part].split(".")[: 1 + (part == "text encoder") + (part == "UNet")])

    def cut(tensors):
        for key in sorted(key for key in tensors if key.startswith(prefix))[:end or None]:
            del tensors[key]

    refused(changed(whole, tmp_path / "cut.safetensors", cut), "lacks|holds no|not a Stable|is a VAE|not have|has no")


def test_more_blocks_than_a_network_has(whole, tmp_path):
    many = {f"{keys.UNET}input_blocks.{i}.0.in_layers.2.weight": torch.zeros(32, 32, 3, 3) for i in range(1, 200)}
    refused(changed(whole, tmp_path / "many.safetensors", lambda tensors: tensors.update(many)), "more than 100 blocks")


SIDECARS = {"[": "YAML", "a: [1, 2": "YAML", "model: 3": "tokens", "[1, 2]": "tokens", "x: " + "[" * 400: "YAML"}
PARAMS = {"scale_factor: [1]": "scale_factor", "scale_factor: .nan": "scale_factor",
          "unet_config: {params: {num_heads: many}}": "num_heads", "parameterization: x0": "parameterization",
          "unet_config: {params: {num_heads: 0}}": "sizes that no", "linear_start: -1": "noise schedule",
          "linear_end: text": "noise schedule", "timesteps: 10000000000": "noise schedule"}
SIDECARS |= {f"model: {{params: {{cond_stage_config: {{params: {{version: clip}}}}, {text}}}}}": said
             for text, said in PARAMS.items()}


@pytest.mark.parametrize("text", SIDECARS)
def test_odd_sidecars(text, whole, tmp_path):
    path = changed(whole, tmp_path / "m.safetensors", lambda tensors: None)
    path.with_suffix(".yaml").write_text(text)
    with pytest.raises(ModelError) as caught:
        checkpoint.load(path)
    assert SIDECARS[text] in str(caught.value) and str(tmp_path / "m.") in str(caught.value) and caught.value.remedy


def test_sidecar_with_a_byte_order_mark(whole, tmp_path):
    path = changed(whole, tmp_path / "m.safetensors", lambda tensors: None)
    path.with_suffix(".yaml").write_bytes(b"\xef\xbb\xbf" + whole.with_suffix(".yaml").read_bytes())
    assert checkpoint.load(path).vae.config.scaling_factor == 0.5


@pytest.mark.parametrize("file, content", [
    *(("model_index.json", content) for content in ("{", "", "[1]", "null", "{\"a\": " * 100_000, "\0\1", "\ufffe{}")),
    *((f"{part}.json", "{") for part in ("unet/config", "vae/config", "text_encoder/config", "tokenizer/vocab")),
])  # fmt: skip
def test_damaged_json_files_in_a_folder(file, content, copy):
    (copy / file).write_text(content)
    refused(copy, file.split("/")[0].removesuffix("_encoder"))


def test_json_files_with_a_byte_order_mark(copy, folder):
    for file in copy.rglob("*.json"):
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    loaded, plain = checkpoint.load(copy), checkpoint.load(folder)
    assert torch.equal(loaded.unet.conv_in.weight, plain.unet.conv_in.weight)
    assert loaded.text.tokenizer(["a b"]) == plain.text.tokenizer(["a b"])


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "tokenizer"])
def test_folder_without_one_of_its_parts(part, copy):
    shutil.rmtree(copy / part)
    refused(copy, rf"sd\b.*{part}")


@pytest.mark.parametrize("part, wrong", [
    ("unet", {"layers_per_block": 10**9}), ("unet", {"block_out_channels": [2**40] * 4}),
    ("unet", {"in_channels": "4"}), ("unet", {"block_out_channels": []}), ("unet", {"down_block_types": ["Other"] * 4}),
    ("unet", {"attention_head_dim": 0}), ("vae", {"block_out_channels": [32] * 10_000}), ("vae", {"in_channels": 9}),
    ("text_encoder", {"num_hidden_layers": 10**8}), ("text_encoder", {"hidden_size": 0}),
    ("text_encoder", {"hidden_act": "none"}),
])  # fmt: skip
def test_impossible_network_configurations(part, wrong, copy):
    file = copy / part / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | wrong))
    refused(copy, part)


@pytest.mark.parametrize("options", [{"beta_schedule": "squaredcos_cap_v2"}, {"beta_start": "x"}, {"beta_end": 7},
                                     {"num_train_timesteps": 10**12}, {"prediction_type": "sample"}])
def test_unknown_noise_schedules(options, copy):
    (copy / "scheduler").mkdir()
    (copy / "scheduler" / "scheduler_config.json").write_text(json.dumps(options))
    refused(copy, "scheduler_config.json")


def test_bin_files_load_without_warnings(copy, folder, capfd):
    for file in list(copy.rglob("*.safetensors")):
        torch.save(load_file(file), file.with_name("pytorch_model.bin" if file.parent.name == "text_encoder" else
                                                   "diffusion_pytorch_model.bin"))
        file.unlink()
    loaded, plain = checkpoint.load(copy), checkpoint.load(folder)
    assert torch.equal(loaded.unet.conv_out.weight, plain.unet.conv_out.weight)
    assert capfd.readouterr() == ("", "")


def test_weights_in_several_files(copy, folder):
    file = next((copy / "unet").glob("*.safetensors"))
    tensors = load_file(file)
    names = sorted(tensors)
    file.unlink()
    parts = {f"diffusion_pytorch_model-0000{i + 1}-of-00002.safetensors": names[i::2] for i in (0, 1)}
    for name, of_it in parts.items():
        save_file({key: tensors[key] for key in of_it}, copy / "unet" / name)
    index = copy / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {key: name for name, of_it in parts.items() for key in of_it}}))
    assert torch.equal(checkpoint.load(copy).unet.conv_out.weight, checkpoint.load(folder).unet.conv_out.weight)
    for wrong in ({"a": "../../etc/passwd"}, {"a": "missing.safetensors"}, {}, [1]):
        index.write_text(json.dumps({"weight_map": wrong}))
        refused(copy, "unet")


def test_motion_module_as_the_checkpoint_is_named(tmp_path):
    module = write_module(tmp_path / "v3_sd15_mm.ckpt", "v3")
    with pytest.raises(ModelError, match=r"mm.ckpt: is a motion module, not an image checkpoint. Give it as the"):
        Pipeline.load(module)
