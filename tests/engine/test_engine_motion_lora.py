"""Motion LoRAs in the engine: from parameter and tags, over key frames, undone after a run, listed and refused."""
from __future__ import annotations

import json
from types import SimpleNamespace

import lora_files_by_hand as by_hand
import pytest
import torch
from safetensors.torch import save_file
from tiny_models import WIDTHS, write_module

from animatediff.engine import models
from animatediff.engine.pipeline import Pipeline
from animatediff.errors import ModelError, SettingsError
from animatediff.faces.cli import main as cli
from animatediff.media import metadata
from animatediff.settings import parse

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture(scope="module")
def files(tmp_path_factory, tiny, pipeline):
    """A folder with the motion LoRAs good, other and wide, a domain adapter, and an image LoRA."""
    folder = tmp_path_factory.mktemp("files")
    save_file(by_hand.original(by_hand.pairs(WIDTHS)), folder / "good.safetensors")
    torch.save({"state_dict": by_hand.original(by_hand.pairs(WIDTHS, seed=9), "module.")}, folder / "other.ckpt")
    save_file(by_hand.webui(by_hand.pairs((64,) * 4)), folder / "wide.safetensors")
    torch.save(by_hand.adapter(pipeline.unet), folder / "adapter.ckpt")
    image = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
    save_file({f"{image}.lora_down.weight": torch.ones(4, 32), f"{image}.lora_up.weight": torch.ones(32, 4)},
              folder / "image.safetensors")
    write_module(folder / "module.safetensors")
    return folder


@pytest.fixture(autouse=True)
def in_the_folder(files, tmp_path, monkeypatch):
    monkeypatch.setenv(models.FOLDER_VARIABLE, str(files))
    monkeypatch.chdir(tmp_path)


def settings(prompt="a red circle", **more):
    return parse({"enable": True, "prompt": prompt, "seed": 3, "steps": 2, "frames": 4, "context_length": 4,
                  "size": "64x64", "sampler": "Euler", **more})


def snapshot(pipeline):
    parts = (pipeline.unet, pipeline.module)
    return ({(n, name): (id(p), p.clone()) for n, part in enumerate(parts) for name, p in part.named_parameters()},
            [sum(len(m._forward_hooks) for m in part.modules()) for part in parts])


def same(a, b):
    return a[1] == b[1] and a[0].keys() == b[0].keys() and all(
        a[0][key][0] == b[0][key][0] and torch.equal(a[0][key][1], b[0][key][1]) for key in a[0])


def test_tag_and_parameter_give_the_same_clip_and_are_undone(pipeline):
    before, plain = snapshot(pipeline), pipeline.sample(settings())
    for named in ("good: 0.8", "good: 0.8; adapter: 0.5", "other: -1", "good: 0: 1, 3: 0"):
        found = pipeline.sample(settings(motion_lora=named))
        assert same(snapshot(pipeline), before) and (found - plain).abs().max() > 1e-2
    tagged = pipeline.sample(settings("a red circle <lora:good:0.8><lora:adapter:0.5>"))
    assert torch.equal(tagged, pipeline.sample(settings(motion_lora="good: 0.8; adapter: 0.5")))
    assert torch.equal(pipeline.sample(settings()), plain)


@pytest.mark.slow
def test_weight_of_0_has_no_effect(pipeline):
    plain = pipeline.sample(settings())
    for named in ("good: 0", "good: 0: 0, 3: 0; adapter: 0"):
        assert torch.equal(pipeline.sample(settings(motion_lora=named)), plain)
    assert torch.equal(pipeline.sample(settings("a red circle <lora:good:0>")), plain)


def test_folder_of_the_same_name_is_ignored(files, tmp_path):
    (tmp_path / "good").mkdir()
    assert models.find_lora("good") == files / "good.safetensors"


@pytest.mark.slow
def test_tag_in_a_key_frame_equals_a_curve(pipeline):
    """The tag's weight in a frame is the share of its prompt."""
    prompt = {"travel_interpolation": "linear"}
    tagged = pipeline.sample(settings("0: a star <lora:good:1>\n3: a star", **prompt))
    expected = pipeline.sample(settings("0: a star\n3: a star", motion_lora="good: 0: 1, 3: 0", **prompt))
    assert (tagged - expected).abs().max() < 1e-4
    everywhere = pipeline.sample(settings("<lora:good:0.5>\n0: a star\n3: a circle", **prompt))
    assert torch.equal(everywhere,
                       pipeline.sample(settings("0: a star\n3: a circle", motion_lora="good: 0.5", **prompt)))


def test_interrupted_run_is_undone(pipeline):
    before = snapshot(pipeline)

    def stop(event):
        assert not same(snapshot(pipeline), before)
        raise KeyboardInterrupt

    for weight in ("1", "0: 1, 3: 0"):
        with pytest.raises(KeyboardInterrupt):
            pipeline.sample(settings(motion_lora=f"good: {weight}; adapter"), stop)
        assert same(snapshot(pipeline), before)


@pytest.mark.parametrize("prompt, parameter, said", [
    ("x", "nothing", r"nothing: there is no such motion LoRA. There are .*good\.safetensors.*animatediff models"),
    ("x <lora:nothing:1>", "", "nothing: there is no such motion LoRA"),
    ("x <lora:image:1>", "",
     "image.safetensors is an image LoRA, not a motion LoRA.*the command line supports only motion LoRAs"),
    ("x", "image", "image.safetensors is an image LoRA"),
    ("x", "module", "module.safetensors is not a motion LoRA"),
    ("0: x\n3: y <lora:wide:1>", "",
     "wide.safetensors is made for 64/64/64/64 channels per level but motion_v2.safetensors has"),
])
def test_refusals(pipeline, prompt, parameter, said):
    with pytest.raises(ModelError, match=f"(?s){said}"):
        pipeline.plan(settings(prompt, motion_lora=parameter))


def test_invalid_weight_is_refused(pipeline):
    with pytest.raises(SettingsError, match="<lora:good:much>: 'much' is not a weight"):
        pipeline.plan(settings("x <lora:good:much>"))


def test_notices(pipeline):
    def said(**more):
        return "; ".join(pipeline.plan(settings(**more)).notices)

    assert "lora" not in said(prompt="x <lora:good:1>").lower()
    assert "<lora:good:1>: the command line supports only motion LoRAs in the prompt" in said(
        negative="<lora:good:1>")
    assert "<hypernet:h:1>" in said(prompt="<hypernet:h:1>")
    assert "motion LoRAs have no effect on stills" in said(motion_lora="good", enable=False)


def test_module_without_a_middle_block_is_noted(tiny, tmp_path):
    pipeline = Pipeline.load(tiny.checkpoint, write_module(tmp_path / "v3.safetensors", "v3"),
                             device="cpu", dtype="fp32")
    assert "good.safetensors was trained on a motion module with a middle block, which v3.safetensors does not" in \
        "".join(pipeline.plan(settings(motion_lora="good")).notices)


QUICK = ["--frames", "3", "--context", "4", "--steps", "1", "--cfg", "1", "--seed", "5", "--size", "64x64", "--device",
         "cpu", "--json"]  # fmt: skip


@pytest.fixture
def command(tiny, capsys):
    def run(*arguments):
        code = cli.main([str(word) for word in arguments])
        out = capsys.readouterr()
        return SimpleNamespace(code=code, err=out.err, report=json.loads(out.out))

    return run


def test_motion_loras_on_the_command_line(command, tiny, files, tmp_path):
    here = ["--checkpoint", tiny.checkpoint, "--motion-module", tiny.module]
    done = command("render", "a red circle", *QUICK, *here,
                   "--motion-lora", f"{files / 'good.safetensors'}: 0.5; other")
    assert done.code == 0
    [written] = done.report["written"][:1]
    about = json.loads(metadata.read(written))
    assert about["settings"]["motion_lora"] == "good.safetensors: 0.5; other"  # no folder
    again = command("render", "--from", written, *here, "--out", "again.gif", "--json", "--device", "cpu")
    assert again.code == 0 and again.report["settings"]["motion_lora"] == "good.safetensors: 0.5; other"


@pytest.mark.parametrize("arguments, code, said", [
    (["x", "--motion-lora", "nothing"], 3, "nothing: there is no such motion LoRA"),
    (["x <lora:image:1>"], 3, "image.safetensors is an image LoRA"),
    (["x", "--motion-lora", "a: b"], 2, "--motion-lora: entry 1, column 4"),
])
def test_command_line_refuses_before_models_load(command, arguments, code, said, monkeypatch):
    monkeypatch.setattr(Pipeline, "load", None)
    done = command("render", *arguments, *QUICK)
    assert done.code == code and said in done.report["error"] and "Traceback" not in done.err


def test_models_command_lists_motion_loras(command, files, capsys):
    found = {entry["name"]: entry for entry in command("models", "--folder", files, "--json").report["models"]}
    assert found["good.safetensors"] | {"path": ""} == {
        "name": "good.safetensors", "path": "", "kind": "motion LoRA", "usable": True, "rank": 4, "widths": [32] * 4}
    assert found["adapter.ckpt"]["kind"] == "domain adapter" and found["module.safetensors"]["kind"] == "motion module"
    assert "is an image LoRA, not a motion module" in found["image.safetensors"]["problem"]
    assert cli.main(["models", "--folder", str(files)]) == 0
    out = capsys.readouterr().out
    assert "other.ckpt\n    motion LoRA, rank 4, channels 32/32/32/32\n" in out
    assert "adapter.ckpt\n    domain adapter, rank 4" in out
