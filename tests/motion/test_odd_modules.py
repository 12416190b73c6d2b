"""Errors for damaged and unusual motion modules and motion LoRAs name the file, when loaded and in listings."""
from __future__ import annotations

import json
import os
import re

import lora_files_by_hand as by_hand
import pytest
import torch
from safetensors.torch import save_file
from tiny_models import WIDTHS, write_module

from animatediff.errors import ModelError
from animatediff.motion import library, load, lora_files
from animatediff.motion.naming import to_diffusers

KEY = "up_blocks.1.motion_modules.2.temporal_transformer.proj_in.bias"
NONE = {"NaN": float("nan"), "infinity": -float("inf")}


def state(make_module, **changed) -> dict:
    found = {key: tensor.clone() for key, tensor in make_module("v2").state_dict().items()}
    return found | changed


def write(tensors, path):
    save_file(tensors, path) if path.suffix == ".safetensors" else torch.save(tensors, path)
    return path


def refusal(read, *arguments, **more) -> str:
    with pytest.raises(ModelError) as caught:
        read(*arguments, **more)
    assert caught.value.remedy
    return str(caught.value)


@pytest.mark.parametrize("name", NONE)
@pytest.mark.parametrize("source", ["mm.safetensors", "mm.ckpt", "a state dict"])
def test_nan_and_infinity_in_a_module_are_refused(name, source, make_module, tmp_path):
    tensors = state(make_module)
    tensors[KEY][-1] = NONE[name]
    given = tensors if source == "a state dict" else write(tensors, tmp_path / source)
    for dtype in (None, torch.float16):
        message = refusal(load, given, name=source, dtype=dtype)
        assert message.startswith(f"{source} has {name}") and KEY in message


def test_an_error_in_a_diffusers_folder_names_the_files_own_key(make_module, tmp_path):
    tensors = to_diffusers(state(make_module))
    key = next(key for key in tensors if key.endswith("attn1.to_q.weight"))
    tensors[key] = tensors[key].clone()
    tensors[key][0, 0] = float("nan")
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "config.json").write_text('{"_class_name": "MotionAdapter"}')
    write(tensors, tmp_path / "adapter" / "diffusion_pytorch_model.safetensors")
    assert key in refusal(load, tmp_path / "adapter")


def test_nan_outside_the_temporal_layers_is_ignored(make_module, tmp_path):
    path = write({**state(make_module), "conv_out.weight": torch.full((4,), float("nan"))}, tmp_path / "mm.ckpt")
    assert load(path).family.name == "v2"


def test_numbers_too_large_for_half_precision_are_refused(make_module, tmp_path):
    path = write(state(make_module, **{KEY: torch.full((64,), 7e4)}), tmp_path / "mm.ckpt")
    assert f"numbers in {KEY} that are too large for float16" in refusal(load, path, dtype=torch.float16)
    assert load(path).state_dict()[KEY][0] == 7e4


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.complex64])
def test_a_listing_reports_unusable_dtypes(dtype, make_module, tmp_path):
    write(state(make_module, **{KEY: torch.ones(64, dtype=dtype)}), tmp_path / "mm.ckpt")
    (entry,) = library.listing([tmp_path])
    assert f"has {KEY} as {str(dtype)[6:]}" in entry.problem == refusal(load, tmp_path / "mm.ckpt")


def test_a_state_dict_on_the_meta_device_is_refused(make_module):
    on_meta = {key: tensor.to("meta") for key, tensor in state(make_module).items()}
    assert "meta device" in refusal(load, on_meta)


def test_fp8_weights_are_converted(make_module, tmp_path):
    tensors = {key: tensor.to(torch.float8_e4m3fn) for key, tensor in state(make_module).items()}
    found = load(write(tensors, tmp_path / "mm.safetensors"), dtype=torch.float32)
    assert torch.equal(found.state_dict()[KEY], tensors[KEY].float())


LORA = by_hand.webui(by_hand.pairs(WIDTHS), alpha=4.0)
UP, ALPHA = (next(key for key in LORA if key.endswith(end)) for end in ("lora_up.weight", "alpha"))


def odd(key: str, change) -> dict:
    return LORA | {key: change(LORA[key].clone())}


@pytest.mark.parametrize("tensors, words", [
    (odd(UP, lambda t: t.fill_(float("nan"))), ["NaN", UP]),
    (odd(UP, lambda t: t.fill_(float("inf"))), ["infinity", UP]),
    (odd(ALPHA, lambda t: t.fill_(float("nan"))), ["alpha"]), (odd(ALPHA, lambda t: torch.ones(2)), ["alpha"]),
    (odd(UP, lambda t: t.to(torch.int8)), ["int8", UP]), (odd(UP, lambda t: t[:, :0]), ["fit together"]),
    (odd(UP, lambda t: t[0]), ["fit together"]),
    (odd(UP, lambda t: t[:, :0]) | {UP.replace("_up", "_down"): LORA[UP.replace("_up", "_down")][:0]}, ["rank 0"]),
], ids=range(8))  # fmt: skip
def test_damaged_motion_loras_are_refused(tensors, words, tmp_path):
    path = write({key: tensor.contiguous() for key, tensor in tensors.items()}, tmp_path / "zoom.safetensors")
    for given, name in ((path, "zoom.safetensors"), (tensors, "the motion LoRA")):
        message = refusal(lora_files.load, given)
        assert message.startswith(name) and all(word in message for word in words), message


def test_a_listing_reports_an_incomplete_motion_lora(tmp_path):
    write({key: tensor for key, tensor in LORA.items() if key != UP}, tmp_path / "zoom.safetensors")
    (entry,) = library.listing([tmp_path])
    assert "is an incomplete motion LoRA" in entry.problem and "Give it as" not in entry.problem


@pytest.mark.parametrize("heads", [0, -8, True, "8", 2**40, 2.5, [8], None])
def test_an_impossible_number_of_heads_is_refused(heads, make_module, tmp_path):
    (tmp_path / "a").mkdir()
    write(to_diffusers(state(make_module)), tmp_path / "a" / "diffusion_pytorch_model.safetensors")
    (tmp_path / "a" / "config.json").write_text(json.dumps({"_class_name": "MotionAdapter",
                                                            "motion_num_attention_heads": heads}))
    assert refusal(load, tmp_path / "a").startswith("a ")


@pytest.mark.skipif(os.name != "posix", reason="needs file names that are not valid text")
def test_a_listing_of_unusual_files_is_valid_json(tmp_path):
    good = write_module(tmp_path / "good.safetensors")
    with open(os.fsencode(tmp_path) + b"/caf\xe9.ckpt", "wb") as file:
        file.write(good.read_bytes())
    (tmp_path / "gone.ckpt").symlink_to(tmp_path / "nothing")
    (tmp_path / "itself.ckpt").symlink_to(tmp_path / "itself.ckpt")
    (tmp_path / "up").symlink_to(tmp_path)
    (tmp_path / "folder.ckpt").mkdir()
    os.mkfifo(tmp_path / "pipe.ckpt")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "config.json").write_text("{")
    found = {entry.name: entry.problem for entry in library.listing([tmp_path])}
    assert found.pop("good.safetensors") == ""
    assert found.keys() == {"caf?.ckpt", "gone.ckpt", "itself.ckpt", "pipe.ckpt", "empty"} and all(found.values())
    json.dumps([entry.to_dict() for entry in library.listing([tmp_path])]).encode()
    assert re.match(r".*pipe.ckpt is no file", found["pipe.ckpt"])
