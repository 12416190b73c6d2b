"""Motion scale, effect and mask in the real WebUI.

The oracle for a scale is a motion module file whose to_k weights were multiplied by the scale.
"""
from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from clip_reading import stills
from PIL import Image, ImageDraw
from safetensors.torch import load_file, save_file
from test_webui_failures import refused
from test_webui_generation import EIGHT, EULER, FRAMES, PROMPT
from webui_host import DEMO

HIRES = {"enable_hr": True, "hr_scale": 1.5, "hr_upscaler": "Latent",
         "hr_second_pass_steps": 4, "denoising_strength": 0.6}


@pytest.fixture(scope="module")
def calm(clean_host):
    """A copy of the demo's motion module with its key weights multiplied by 0.4."""
    weights = load_file(DEMO / "motion.safetensors")
    path = clean_host.motion / "calm.safetensors"
    save_file({key: value * 0.4 if key.endswith("to_k.weight") else value for key, value in weights.items()}, path)
    yield path.name
    path.unlink()


def mask(value: int | None, size: tuple[int, int] = (96, 64)) -> str:
    """A mask of one grey, or for None, black with a white oval at the left."""
    picture, file = Image.new("L", size, value or 0), io.BytesIO()
    if value is None:
        ImageDraw.Draw(picture).ellipse((0, 0, size[0] // 2, size[1]), fill=255)
    picture.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def clip(host, fields: dict | None = None, **settings) -> np.ndarray:
    return stills(host.txt2img({**FRAMES, **settings}, **{"prompt": PROMPT, **EULER, **(fields or {})}))


def apart(a: np.ndarray, b: np.ndarray) -> float:
    assert a.shape == b.shape
    return float(np.abs(a.astype(float) - b).mean((1, 2, 3)).max())


def motion(frames: np.ndarray) -> float:
    return float(np.abs(np.diff(frames.astype(float), axis=0)).mean())


def test_scales_are_those_of_scaled_weights(host, calm):
    ordinary, expected = clip(host), clip(host, model=calm)
    assert apart(ordinary, expected) > 5 and motion(expected) < 0.4 * motion(ordinary)
    for settings in ({"motion_scale": 0.4}, {"motion_scale": "0: 0.8, 100%: 0.8", "motion_scale_steps": "0.5"},
                     {"motion_scale": [0.4, 0.4, 0.4, 0.4], "motion_mask": ""},
                     {"motion_mask": mask(0), "motion_mask_min": 0.4},
                     {"motion_mask": f"data:image/png;base64,{mask(0)}", "motion_mask_min": 0.2, "motion_scale": "2"}):
        assert apart(clip(host, **settings), expected) < 0.5, settings


def test_a_scale_of_1_and_a_white_mask_change_no_bit(host):
    ordinary = clip(host)
    for settings in ({"motion_scale": "1.0", "motion_effect": 1}, {"motion_mask": mask(255), "motion_mask_min": 0.1},
                     {"motion_mask": mask(None), "motion_mask_min": 1}):
        assert np.array_equal(clip(host, **settings), ordinary), settings


def test_key_frames_steps_and_effect_change_the_clip(host):
    fields = {"steps": 8}
    clips = [clip(host, fields, **settings) for settings in (
        {}, {"motion_scale": "0: 1, 7: 0"}, {"motion_scale_steps": "0%: 0, 50%: 1"}, {"motion_effect": 0.6},
        {"motion_mask": mask(None)}, {"motion_mask": mask(None), "motion_mask_max": 2})]
    assert min(apart(a, b) for i, a in enumerate(clips) for b in clips[:i]) > 0.5


@pytest.mark.parametrize("fields", [
    HIRES, {"cfg_scale": 1}, {"sampler_name": "Heun"}, {"sampler_name": "DDIM"}, {"n_iter": 2},
    {"prompt": f"{PROMPT} AND a circle :0.3"}, {"refiner_checkpoint": "second", "refiner_switch_at": 0.5},
    {"override_settings": {"batch_cond_uncond": False}}, {"width": 96, "height": 64},
], ids=lambda f: str(f)[:60])  # fmt: skip
def test_in_every_pass_it_is_the_scaled_weights(host, calm, fields):
    fields = {"steps": 6, **fields}
    expected = clip(host, fields, model=calm)
    assert apart(clip(host, fields, motion_mask=mask(0), motion_mask_min=0.4), expected) < 1
    assert apart(clip(host, fields), expected) > 1


def test_windows_and_img2img(host, calm):
    windows = {"video_length": 14, "overlap": 2, "closed_loop": "R+P"}
    assert apart(clip(host, {"steps": 6}, motion_scale=0.4, **windows),
                 clip(host, {"steps": 6}, model=calm, **windows)) < 1
    source = host.txt2img(prompt=PROMPT, seed=2, steps=8).images[:1]
    fields = dict(prompt=PROMPT, seed=2, steps=12, denoising_strength=0.9, sampler_name="Euler")
    found, expected = (stills(host.img2img(source, {**FRAMES, **more}, **fields))
                       for more in ({"motion_scale": 0.4, "motion_scale_steps": "1"}, {"model": calm}))
    assert apart(found, expected) < 1


def test_the_infotext_names_the_mask_and_makes_the_clip_again(host, files):
    answer = host.txt2img({**FRAMES, "motion_mask": mask(None, (80, 48)), "motion_mask_min": 0.4}, prompt=PROMPT,
                          **{**EULER, "steps": 4})
    text = answer.expect().info["infotexts"][0]
    assert mask(None, (80, 48))[:60] not in text and "motion_mask_min: 0.4" in text
    [kept] = [path for path in files() if "AnimateDiff-masks" in str(path)]
    assert kept.suffix == ".png" and kept.name in text
    again = host.txt2img({**FRAMES, "motion_mask": kept.name, "motion_mask_min": 0.4}, prompt=PROMPT,
                         **{**EULER, "steps": 4})
    assert np.array_equal(stills(again), stills(answer))
    pasted = host.post("/sdapi/v1/txt2img", {
        "infotext": text, "prompt": PROMPT, "steps": 4, "width": 64, "height": 64,
        "alwayson_scripts": {"AnimateDiff": {"args": [{**FRAMES, "motion_mask": "gone.png"}]}}})
    assert pasted.status == 422 and "gone.png" in pasted.detail


@pytest.mark.parametrize(("change", "parts"), [
    ({"motion_mask": "/etc/passwd"}, ("motion mask", "does not read files there")),
    ({"motion_mask": "nowhere.png"}, ("nowhere.png", "no such file")),
    ({"motion_mask": "data:image/png;base64,aGVsbG8="}, ("motion_mask", "base64")),
    ({"motion_mask": mask(9)[:44]}, ("damaged",)), ({"motion_mask": {"image": "x"}}, ("motion_mask", "text")),
    ({"motion_mask": "A" * 200_000}, ("motion_mask", "not a picture or video in base64")),
    ({"motion_scale": "0: 1, 8"}, ("motion_scale", "key frame")),
    ({"motion_scale": -1}, ("motion_scale", "from 0 to 10")),
    ({"motion_effect": 2.5}, ("motion_effect", "from 0 to 2")), ({"motion_mask_max": "white"}, ("motion_mask_max",)),
], ids=lambda c: str(c)[:40])  # fmt: skip
def test_bad_input_is_refused_with_a_message(host, files, change, parts):
    answer = host.txt2img({**EIGHT, **change}, prompt=PROMPT)
    refused(answer, *parts)
    assert files() == [] and "Traceback" not in host.log() and "root:" not in answer.detail and len(answer.detail) < 600


@pytest.mark.parametrize("kind", ["RuntimeError", "OutOfMemory", "interrupt"])
def test_faults_while_steered_are_undone(host, kind):
    host.fault(kind, call=2)
    host.txt2img({**EIGHT, "motion_mask": mask(None), "motion_scale": "0: 1, 7: 0.5"},
                 prompt=PROMPT, **{**EULER, "steps": 4})
