"""The hosts' own ControlNet, with a network that has random weights.

A motion module whose last layers are zero does not connect frames. So each frame of a clip with a folder of hints must
be the frame of the clip that the host makes with the hint of that frame alone, in its own way, for all frames.
"""
from __future__ import annotations

import base64
import io

import numpy as np
import pytest
import torch
from clip_reading import stills
from PIL import Image, ImageDraw
from safetensors.torch import load_file, save_file
from webui_host import DEMO

FRAMES = 6
CLIP = {"enable": True, "model": "still.safetensors", "video_length": FRAMES, "batch_size": 4, "overlap": 1,
        "format": ["GIF"], "returns": "frames"}
HIRES = {"enable_hr": True, "hr_scale": 1.5, "hr_upscaler": "Latent", "hr_second_pass_steps": 3, "hr_cfg": 5.0,
         "denoising_strength": 0.6}


@pytest.fixture(scope="module")
def hints(clean_host):
    """A folder with a picture for each frame. The motion module without effect lies beside the other one."""
    weights = load_file(DEMO / "motion.safetensors")
    path = clean_host.motion / "still.safetensors"
    save_file({key: torch.zeros_like(value) if ".proj_out." in key else value for key, value in weights.items()}, path)
    folder = clean_host.data / "hints"
    folder.mkdir(exist_ok=True)
    for i in range(FRAMES):
        image = Image.new("RGB", (64, 64))
        ImageDraw.Draw(image).ellipse((8 * i, 8, 8 * i + 24, 56), fill=(255, 40 * i, 128))
        image.save(folder / f"{i:03}.png")
    yield folder
    path.unlink()


def frames(host, unit: dict | None, settings: dict | None = None, **fields) -> np.ndarray:
    common = {"enabled": True, "module": "None", "model": model(host), "save_detected_map": False}
    more = {} if unit is None else {"alwayson_scripts": {"ControlNet": {"args": [{**common, **unit}]}}}
    return stills(host.txt2img({**CLIP, **(settings or {})}, sampler_name="Euler", **fields, **more)).astype(int)


def model(host, start: str = "control_tiny_sd15") -> str:
    listed = host.get("/controlnet/model_list").expect().body["model_list"]
    return next(name for name in listed if name.startswith(start))


def encoded(path) -> str:
    out = io.BytesIO()
    Image.open(path).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


@pytest.mark.parametrize("fields", [{}, {"cfg_scale": 1.0}, {"prompt": "a red circle AND a blue square :0.5"}, HIRES],
                         ids=["windows", "CFG 1", "AND", "Hires. fix"])
def test_each_frame_has_its_own_hint(host, hints, fields):
    made, without = frames(host, {"batch_image_dir": str(hints)}, **fields), frames(host, None, **fields)
    for i in (0, 4):
        one = frames(host, {"image": encoded(hints / f"{i:03}.png")}, **fields)
        assert np.abs(made[i] - one[i]).max() <= 2, f"frame {i}"
        assert np.abs(made[i] - without[i]).max() > 20, "the hint matters"
        assert np.abs(made[5 - i] - one[5 - i]).max() > 10, "it is not the hint of another frame"


def test_key_frames(host, hints):
    """Frames between them have a black hint."""
    made = frames(host, {"batch_image_dir": f"{hints}\nkeyframe: 1, 4"})
    black = hints.parent / "black"
    black.mkdir(exist_ok=True)
    for i in range(FRAMES):
        Image.new("RGB", (64, 64)).save(black / f"{i}.png")
    units = {"none": {"batch_image_dir": str(black)}, "first": {"image": encoded(hints / "000.png")},
             "second": {"image": encoded(hints / "001.png")}}
    ones = {name: frames(host, unit) for name, unit in units.items()}
    for i, name in {1: "first", 4: "second", 0: "none", 3: "none", 5: "none"}.items():
        for one, clip in ones.items():
            off = np.abs(made[i] - clip[i]).max()
            assert off <= 2 if one == name else off > 10, f"frame {i} and the hint {one}"


def test_a_sparsectrl_model_is_refused(host, hints):
    path = host.data / "models" / "ControlNet" / "sparse_tiny_sd15.safetensors"
    weights = load_file(host.data / "models" / "ControlNet" / "control_tiny_sd15.safetensors")
    motion = {k: v for k, v in load_file(DEMO / "motion.safetensors").items() if k.startswith("down_blocks.")}
    save_file({**weights, **motion}, path)
    try:
        host.post("/test-vision/refresh", {}).expect()
        units = [{"enabled": True, "model": model(host, "sparse_tiny"), "batch_image_dir": f"{hints}\nkeyframe: 1"}]
        answer = host.txt2img(CLIP, alwayson_scripts={"ControlNet": {"args": units}})
    finally:
        path.unlink()
    assert answer.status == 422 and "is a SparseCtrl model" in answer.detail and "IP-Adapter" in answer.detail


def test_with_motion(host, hints):
    settings = {"model": "motion.safetensors"}
    made = frames(host, {"batch_image_dir": str(hints)}, settings)
    assert made.shape == (FRAMES, 64, 64, 3) and np.abs(made - frames(host, None, settings)).max() > 20


def test_a_disabled_unit_does_nothing(host, hints):
    assert (frames(host, {"enabled": False}) == frames(host, None)).all()


def test_a_unit_without_a_picture_has_the_sources_frames(host, hints):
    source = {"video_path": str(hints), "video_length": 0}
    assert (frames(host, {}, source) == frames(host, {"batch_image_dir": str(hints)}, source)).all()


def test_a_folder_with_too_few_pictures_is_refused(host, hints):
    units = [{"enabled": True, "model": model(host), "batch_image_dir": str(hints)}]
    answer = host.txt2img({**CLIP, "video_length": 9}, alwayson_scripts={"ControlNet": {"args": units}})
    assert answer.status == 422 and "ControlNet unit 0" in answer.detail and "6 pictures" in answer.detail


def test_a_unit_that_cannot_be_set_up_stops_the_clip(host, hints):
    units = [{"enabled": True, "model": "no such model", "batch_image_dir": str(hints)}]
    answer = host.txt2img(CLIP, alwayson_scripts={"ControlNet": {"args": units}})
    assert answer.status == 422 and "ControlNet" in answer.detail
