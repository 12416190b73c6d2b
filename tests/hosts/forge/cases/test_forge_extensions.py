"""The hosts' own extensions that change the UNet or the sampling, beside a clip.

A motion module whose last layers are zero does not connect frames. So a clip must be the host's batch of pictures with
the same extension: in one window, and in several, unless the extension itself connects the pictures of a call.
"""
from __future__ import annotations

import numpy as np
import pytest
import torch
from clip_reading import stills
from safetensors.torch import load_file, save_file
from webui_host import DEMO

FRAMES = 6
CLIP = {"enable": True, "model": "still.safetensors", "video_length": FRAMES, "latent_scale": 0, "format": ["GIF"],
        "returns": "frames"}
FIELDS = {"prompt": "a red circle", "steps": 3, "seed": 3, "sampler_name": "Euler", "width": 128, "height": 128}
WINDOWS = {"one window": {"batch_size": FRAMES}, "windows": {"batch_size": 4, "overlap": 1}}
EXTENSIONS = {  # a part of the title -> values by label
    "FreeU": {"B1": 1.5, "B2": 1.6, "S1": 0.9, "S2": 0.2},
    "SelfAttentionGuidance": {"Scale": 2.0},
    "PerturbedAttentionGuidance": {"Scale": 100.0},
    "Kohya HRFix": {"End Percent": 1.0},
    "DynamicThresholding": {"Mimic Scale": 2.0},
    "LatentModifier": {"Sharpness Multiplier": 100.0},
    "MultiDiffusion": {"Tile Width": 96, "Tile Height": 96, "Tile Overlap": 32},
    "StyleAlign": {},
    "HyperTile": {"Tile Size": 64, "Swap Size": 1},
    "Never OOM": {},
    "RescaleCFG": {},
    "Mahiro": {},
    "APG's now": {},
}
CONNECTED = "StyleAlign"  # pictures of a call
NEAR = {"Forge": 0.1, "Neo": 0.2, "reForge": 0.35}  # mean difference of 255; Neo's case starts from a picture
NO_CHANGE = ("FreeU", "Never OOM")  # FreeU: of blocks with the widths of SD1.5, which the demo checkpoint does not have
ASK_AGAIN = ("SelfAttentionGuidance", "PerturbedAttentionGuidance", "reference_only")  # they call the UNet themselves


@pytest.fixture(scope="module")
def still(clean_host):
    path = clean_host.motion / "still.safetensors"
    save_file({key: torch.zeros_like(value) if ".proj_out." in key else value
               for key, value in load_file(DEMO / "motion.safetensors").items()}, path)
    yield
    path.unlink()


@pytest.fixture
def with_extension(host):
    """with_extension(name): the request's fields that switch on this extension or ControlNet's module."""
    def picture() -> str:
        return host.txt2img(**FIELDS).expect().images[0]

    def fields(name: str) -> dict:
        if name == "reference_only":
            if name not in host.get("/controlnet/module_list").expect().body["module_list"]:
                pytest.skip(f"{host.kind.name} has no {name}")
            return {"alwayson_scripts": {"ControlNet": {"args": [{"enabled": True, "module": name, "model": "None",
                                                                   "image": picture()}]}}}
        found = sorted((script for script in host.get("/sdapi/v1/script-info").expect().body
                        if name.lower() in script["name"] and script["is_alwayson"]),
                       key=lambda script: script["is_img2img"])
        if not found:
            pytest.skip(f"{host.kind.name} has no {name}")
        wanted = {"": True, **EXTENSIONS[name]}
        [script] = found[:1]
        args = [wanted.pop(arg["label"], arg["value"]) for arg in script["args"]]
        args[0] = True
        assert wanted.keys() <= {""}, f"{wanted} is not among {[arg['label'] for arg in script['args']]}"
        of_img2img = {"images": [picture()]} if script["is_img2img"] else {}  # Neo's MultiDiffusion
        return {"alwayson_scripts": {script["name"]: {"args": args}}, **of_img2img}

    return fields


def ask(host, settings=None, images=None, **fields):
    return host.img2img(images, settings, **fields) if images else host.txt2img(settings, **fields)


@pytest.mark.parametrize("windows", WINDOWS)
@pytest.mark.parametrize("name", EXTENSIONS)
def test_a_clip_without_motion_is_the_hosts_batch(host, still, with_extension, name, windows):
    extension = with_extension(name)
    if name == CONNECTED and windows == "windows":
        pytest.skip("it connects the frames of a window, not those of the clip")
    clip = stills(ask(host, {**CLIP, **WINDOWS[windows]}, **FIELDS, **extension)).astype(float)
    host.post("/test-probe/linear", {}).expect()
    batch = stills(ask(host, **FIELDS, batch_size=FRAMES, **extension)).astype(float)
    without = {**extension, "alwayson_scripts": {}}
    plain = stills(ask(host, **FIELDS, batch_size=FRAMES, **without)).astype(float)
    assert np.abs(clip - batch).mean() < NEAR[host.kind.name], np.abs(clip - batch).mean((1, 2, 3))
    assert np.abs(batch - plain).mean() > 0.5 or name in NO_CHANGE, np.abs(batch - plain).mean()


@pytest.mark.parametrize("name", ASK_AGAIN)
def test_speed_presets_reuse_nothing_where_an_extension_calls_the_unet(host, with_extension, name):
    extension = with_extension(name)
    clip = {**CLIP, **WINDOWS["windows"], "model": "motion.safetensors"}
    fields = {**FIELDS, "steps": 10, **extension}
    whole = stills(ask(host, clip, **fields)).astype(float)
    answer = ask(host, {**clip, "speed": "draft"}, **fields)
    assert np.abs(stills(answer) - whole).mean() < 0.1
    [note] = answer.info["extra_generation_params"]["AnimateDiff notes"]
    assert note.endswith("because another extension calls the UNet, too"), note
