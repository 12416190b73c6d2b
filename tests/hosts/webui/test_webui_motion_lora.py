"""Motion LoRAs in the real WebUI: named in the parameter, and in the prompt like the WebUI's own LoRAs.

After each case the fixture `host` compares the model with that of a clean start, bit for bit.
"""
from __future__ import annotations

import lora_files_by_hand as by_hand
import numpy as np
import pytest
import torch
from clip_reading import stills
from safetensors.torch import load_file, save_file
from test_webui_generation import EIGHT, EULER, FRAMES, PROMPT
from webui_host import DEMO

STYLE = "lora_unet_down_blocks_{}_attentions_{}_transformer_blocks_0_attn2_to_v"
HIRES = {"enable_hr": True, "hr_scale": 1.5, "hr_upscaler": "Latent", "hr_second_pass_steps": 4,
         "denoising_strength": 0.6}
WIDTHS = (64,) * 4


@pytest.fixture(scope="module", autouse=True)
def files(clean_host):
    """The released zoom-in beside the motion module; pan, a domain adapter and an image LoRA in the host's folder."""
    theirs = clean_host.data / "models" / "Lora" / "sub"
    theirs.mkdir(parents=True, exist_ok=True)
    written = [clean_host.motion / "zoom-in.safetensors", theirs / "pan.ckpt", theirs / "v3_sd15_adapter.ckpt",
               theirs / "style.safetensors"]
    written[0].symlink_to(DEMO / "lora" / "zoom-in.safetensors")
    torch.save({"state_dict": by_hand.original(by_hand.pairs(WIDTHS, size=0.3), "module.")}, written[1])
    image = {key: value.float() for key, value in load_file(DEMO / "demo.safetensors").items()}
    adapter, style = {}, {}
    random = torch.Generator().manual_seed(1)
    for level in range(3):
        for j in range(2):
            ldm = f"model.diffusion_model.input_blocks.{3 * level + j + 1}.1.transformer_blocks.0."
            for attention in ("attn1", "attn2"):
                for layer in by_hand.LAYERS:
                    out, into = image[f"{ldm}{attention}.{layer.replace('out', 'out.0')}.weight"].shape
                    at = f"down_blocks.{level}.attentions.{j}.transformer_blocks.0.{attention}.processor.{layer}_lora"
                    adapter[f"{at}.down.weight"] = torch.randn(4, into, generator=random) * 0.5 * into**-0.5
                    adapter[f"{at}.up.weight"] = torch.randn(out, 4, generator=random) * 0.5
            style[f"{STYLE.format(level, j)}.lora_down.weight"] = torch.randn(4, 128, generator=random) * 0.04
            style[f"{STYLE.format(level, j)}.lora_up.weight"] = torch.randn(64, 4, generator=random) * 0.5
    torch.save(adapter, written[2])
    save_file(style, written[3])
    yield
    for path in written:
        path.unlink()


def frames(host, **fields) -> np.ndarray:
    settings = {**FRAMES, **fields.pop("settings", {})}
    return stills(host.txt2img(settings, **{**EULER, "prompt": PROMPT, "steps": 6, **fields}))


def same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and np.array_equal(a, b)


def test_the_shipped_one_does_what_it_says(host):
    from benchmarks.motion_lora import movement

    still = {"prompt": "a red circle at rest", "steps": 20, "settings": {"video_length": 16, "batch_size": 16}}
    plain = frames(host, **still)
    still["settings"] |= {"motion_lora": "zoom-in: 1.5"}
    zoomed = frames(host, **still)
    assert movement(list(zoomed)).zoom > 1.25 * movement(list(plain)).zoom


@pytest.mark.parametrize("fields", [
    {}, {"sampler_name": "DDIM"}, HIRES, {**HIRES, "hr_prompt": f"{PROMPT}, big{{}}"}, {"n_iter": 2},
    {"refiner_checkpoint": "second", "refiner_switch_at": 0.5}, {"cfg_scale": 1},
    {"settings": {"video_length": 12, "batch_size": 8, "overlap": 2}},
    {"override_settings": {"batch_cond_uncond": False}},
], ids=lambda fields: str(fields)[:60])  # fmt: skip
def test_tag_and_parameter_are_equal_bit_for_bit(host, fields):
    tags = "<lora:zoom-in:0.7><lora:pan:-0.5><lora:v3_sd15_adapter:0.6>"
    named = {**fields.get("settings", {}), "motion_lora": "zoom-in: 0.7; pan: -0.5; v3_sd15_adapter: 0.6"}
    hires = fields.get("hr_prompt", "")
    plain = frames(host, **{**fields, "hr_prompt": hires.format("")})
    by_name = frames(host, **{**fields, "settings": named, "hr_prompt": hires.format("")})
    by_tag = frames(host, **{**fields, "prompt": f"{PROMPT}{tags}", "hr_prompt": hires.format(tags)})
    assert same(by_name, by_tag) and not same(by_name, plain)
    assert same(frames(host, **{**fields, "hr_prompt": hires.format("")}), plain), "the module in memory keeps nothing"


def test_a_weight_of_0_is_none(host):
    plain = frames(host)
    assert same(frames(host, settings={"motion_lora": "zoom-in: 0; pan: 0: 0, 7: 0"}), plain)
    assert same(frames(host, prompt=f"{PROMPT}<lora:zoom-in:0>"), plain)


def test_an_image_lora_beside_it_still_works(host):
    plain, style = frames(host), frames(host, prompt=f"{PROMPT}<lora:style:1>")
    assert not same(plain, style)
    both = frames(host, prompt=f"{PROMPT}<lora:style:1><lora:zoom-in:1><lora:v3_sd15_adapter:1>")
    named = frames(host, prompt=f"{PROMPT}<lora:style:1>", settings={"motion_lora": "zoom-in; v3_sd15_adapter"})
    assert same(both, named) and not same(both, style)
    assert same(frames(host, prompt=f"{PROMPT}<lora:style:1>"), style) and same(frames(host), plain)
    text = host.txt2img(EIGHT, prompt=f"{PROMPT}<lora:style:1><lora:zoom-in:1>", steps=2).expect().info["infotexts"][0]
    assert "style: " in text and "zoom-in: " not in text.split("Lora hashes")[1]


def test_a_key_frames_tag_acts_on_its_frames(host):
    linear = {"travel_interpolation": "linear"}
    key_frames = f"0: {PROMPT}{{}}\n7: {PROMPT}"
    tagged = frames(host, prompt=key_frames.format("<lora:pan:1>"), settings=linear)
    named = frames(host, prompt=key_frames.format(""), settings={**linear, "motion_lora": "pan: 0: 1, 7: 0"})
    assert np.abs(tagged.astype(int) - named).max() <= 2
    answer = host.txt2img({**EIGHT}, prompt=key_frames.format("<lora:pan:1>") + "<lora:style:1>", steps=2).expect()
    notes = answer.info["extra_generation_params"]["AnimateDiff notes"]
    assert [note for note in notes if "whole clip" in note] == [
        "extra networks act on the whole clip, not only at the key frames that name them: style"]


@pytest.mark.parametrize("kind", ["RuntimeError", "OutOfMemory"])
def test_what_fails_in_the_middle_leaves_nothing(host, kind):
    plain = frames(host)
    host.fault(kind, 3)
    answer = host.txt2img({**EIGHT, "motion_lora": "zoom-in; pan: 0: 1, 7: 0; v3_sd15_adapter: 0: 0, 7: 1"},
                          prompt=PROMPT)
    assert answer.status == 500
    assert same(frames(host), plain)


@pytest.mark.parametrize(("settings", "prompt", "said"), [
    ({"motion_lora": "zoomin"}, PROMPT, "zoomin: there is no such motion LoRA. There are zoom-in.safetensors"),
    ({"motion_lora": "../../../etc/passwd"}, PROMPT, "there is no such motion LoRA"),
    ({"motion_lora": "style"}, PROMPT, "style.safetensors is an image LoRA, not a motion LoRA. Name it in the prompt"),
    ({"motion_lora": "motion"}, PROMPT, "motion.safetensors is not a motion LoRA"),
    ({"motion_lora": "zoom-in: 0.8, pan: 1"}, PROMPT, "motion_lora: entry 1, column 10"),
    ({}, f"{PROMPT} <lora:zoom-in:much>", "prompt, <lora:zoom-in:much>: 'much' is not a weight"),
])  # fmt: skip
def test_what_cannot_be_had_is_a_422(host, settings, prompt, said):
    answer = host.txt2img({**EIGHT, **settings}, prompt=prompt)
    assert answer.status == 422 and said in answer.detail and "Traceback" not in host.log()
    if "column" not in said:
        body = {"prompt": prompt, "alwayson_scripts": {"AnimateDiff": {"args": [{**EIGHT, **settings}]}}}
        told = host.post("/animatediff/v1/preflight", body).expect().body
        assert any(said in problem for problem in told["problems"])


def test_an_unknown_name_in_a_tag_is_the_hosts(host):
    """The host ignores it; the page says so."""
    assert same(frames(host, prompt=f"{PROMPT}<lora:nowhere:1>"), frames(host))


def test_lists_and_infotext(host):
    listed = host.get("/animatediff/v1/models").expect().body
    kinds = {entry["name"]: entry["kind"] for entry in listed["motion_loras"]}
    assert kinds == {"zoom-in.safetensors": "motion LoRA", "sub/pan.ckpt": "motion LoRA",
                     "sub/v3_sd15_adapter.ckpt": "domain adapter"}
    assert [entry["name"] for entry in listed["models"]] == ["motion.safetensors"]
    body = {"prompt": f"{PROMPT}<lora:pan:0.5>", "alwayson_scripts": {"AnimateDiff": {"args": [
        {**EIGHT, "motion_lora": "zoom-in: 0.8"}]}}}
    told = host.post("/animatediff/v1/preflight", body).expect().body
    assert "Motion LoRA: zoom-in.safetensors × 0.8, pan.ckpt × 0.5" in told["lines"]
    answer = host.txt2img({**EIGHT, "motion_lora": "zoom-in: 0.8; pan: 0: 1, 7: 0"}, prompt=f"{PROMPT}<lora:pan:0.5>",
                          steps=2).expect()
    text = answer.info["infotexts"][0]
    assert text.startswith(f"{PROMPT}<lora:pan:0.5>\n") and "motion_lora: " in text
    again = host.post("/sdapi/v1/txt2img", {"infotext": text}).expect()
    assert again.info["extra_generation_params"]["AnimateDiff"] == answer.info["extra_generation_params"]["AnimateDiff"]
