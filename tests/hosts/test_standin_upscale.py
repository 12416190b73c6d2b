"""The gallery's button for the Hires. pass, on a clip: the pass covers the whole clip, with its settings."""
from __future__ import annotations

import importlib
import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageSequence
from slow_cases import slow

FIELDS = {"prompt": "a red circle", "width": 64, "height": 64, "steps": 3, "seed": 7, "sampler_name": "Euler",
          "hr_upscaler": "Latent", "denoising_strength": 0.6, "enable_hr": False, "do_not_save_grid": True}
CLIP = {"enable": True, "model": "moving.safetensors", "video_length": 5, "batch_size": 3, "overlap": 1}
OFF = {"enable": False}
NEEDS_VIDEO = pytest.mark.skipif(importlib.util.find_spec("av") is None, reason="needs PyAV")


@pytest.fixture
def host(host):
    host.shared.demo = SimpleNamespace(temp_files=set())
    host.txt2img = importlib.import_module("modules.txt2img")
    host.plain_upscale = host.txt2img.txt2img_upscale
    host.script_callbacks.before_ui_callback()
    return host


def generated(host, **settings):
    """Return the gallery's items and texts of a generated clip."""
    answer = host.request("txt2img", FIELDS, {"AnimateDiff": [{**CLIP, **settings}]})
    assert answer.status == 200, answer
    files = answer.info["extra_generation_params"]["AnimateDiff files"]
    if settings.get("returns") == "frames":
        [folder] = [path for path in Path(files[0]).parent.iterdir() if path.is_dir()]
        files = sorted(map(str, folder.iterdir()))
    assert len(files) == len(answer.info["infotexts"])
    host.shared.demo.temp_files |= {f"{file}?1" for file in files} | set(files)
    return [{"name": f"{file}?1", "is_file": True} for file in files], json.dumps(answer.info)


def pressed(host, gallery, about, index=0, settings=OFF, **fields):
    script = host.scripts.scripts_txt2img.alwayson_scripts[0]
    script.args_from, script.args_to = 0, 1
    fields = {**FIELDS, **fields}
    return host.txt2img.txt2img_upscale("task", None, gallery, index, about, fields, settings)


def frames(path):
    return [np.array(frame.convert("RGB"), int) for frame in ImageSequence.Iterator(Image.open(path))]


def path_of(picture):
    return Path(picture.already_saved_as.rsplit("?", 1)[0])


@pytest.mark.slow
def test_the_pass_is_the_one_that_hires_fix_would_have_made(host):
    """The frames lost only the bits beyond eight, so the pixels are close but not equal.

    The upscaler is one for pictures, since the stand-in's VAE does not restore latents from its pictures.
    """
    upscaler = "Lanczos"
    gallery, about = generated(host, format=["APNG", "PNG"])
    made, info, _, _ = pressed(host, gallery, about, hr_upscaler=upscaler)
    second = frames(path_of(made[0]))
    answer = host.request("txt2img", {**FIELDS, "enable_hr": True, "hr_upscaler": upscaler},
                          {"AnimateDiff": [{**CLIP, "format": ["APNG"]}]})
    whole = frames(answer.info["extra_generation_params"]["AnimateDiff files"][0])
    assert len(second) == len(whole) == 5 and second[0].shape == (128, 128, 3)
    assert np.mean([np.abs(a - b).mean() for a, b in zip(second, whole)]) < 12
    others = np.mean([np.abs(a - b).mean() for a, b in zip(second, whole[1:])])
    assert others > 2 * np.mean([np.abs(a - b).mean() for a, b in zip(second, whole)])
    assert "Seed: 7" in json.loads(info)["infotexts"][0] and "frames: 5" in json.loads(info)["infotexts"][0]


@pytest.mark.parametrize("settings, index", [
    ({"format": ["GIF"]}, 0), slow({"format": ["GIF", "PNG"], "returns": "frames"}, 3),
    slow({"format": ["WEBP", "PNG"]}, 0),
    slow({"format": ["APNG"], "closed_loop": "ping-pong"}, 0),
    pytest.param({"format": ["MP4"]}, 0, marks=(NEEDS_VIDEO, pytest.mark.slow)),
], ids=str)
def test_whatever_the_gallery_shows_of_the_clip(host, settings, index):
    gallery, about = generated(host, **settings)
    before = set((host.data / "outputs").rglob("*.*"))
    windows = []
    unet = host.shared.sd_model.model.diffusion_model
    handle = unet.register_forward_pre_hook(lambda _, args: windows.append((len(args[0]), args[0].shape[-1])))
    made, info, _, _ = pressed(host, gallery, about, index, settings={**CLIP, "enable": False, "video_length": 2})
    handle.remove()
    assert {size for _, size in windows} == {16}, "there is no first pass"
    assert max(rows for rows, _ in windows) == 6, "windows of 3 frames in two roles, as the clip was made"
    new = [path for path in set((host.data / "outputs").rglob("*.*")) - before if path.is_file()]
    assert {path.suffix for path in new} == {f".{kind.lower()}" for kind in settings["format"]}
    kept = [*gallery[:index], *gallery[index + 1:]]
    shown = [path_of(picture) for picture in made]
    assert [path for path in shown if path not in new] == [Path(item["name"][:-2]) for item in kept]
    assert len(json.loads(info)["infotexts"]) == len(made)


def test_what_cannot_be_read_is_refused_and_the_gallery_stays(host):
    gallery, about = generated(host, format=["GIF"])
    path = Path(gallery[0]["name"][:-2])
    path.write_bytes(path.read_bytes()[:200])
    made, info, said, comments = pressed(host, gallery, about)
    assert [picture.already_saved_as for picture in made] == [str(path)] and info == about and comments == ""
    assert "Select a clip whose file" in said and "Hires. fix" in said


@pytest.mark.slow
def test_a_file_elsewhere_is_not_read(host):
    gallery, about = generated(host, format=["GIF"])
    host.shared.demo.temp_files.clear()
    _, info, said, _ = pressed(host, gallery, about)
    assert "not in a folder" in said and info == about


def test_a_picture_is_the_hosts_own_even_where_clips_are_enabled(host, tmp_path):
    plain = host.request("txt2img", {**FIELDS, "batch_size": 1})
    file = tmp_path / "picture.png"
    file.write_bytes(plain.images[0])
    about = json.dumps({"infotexts": plain.info["infotexts"]})
    gallery = [{"name": str(file)}]
    wanted = host.plain_upscale("task", None, gallery, 0, about, FIELDS, OFF)
    made = pressed(host, gallery, about, settings=CLIP)
    assert np.array_equal(np.array(made[0][0]), np.array(wanted[0][0])) and made[1] == wanted[1]
    assert "without motion" in made[3]


def test_everything_is_as_before(host):
    gallery, about = generated(host, format=["GIF"])
    wanted = host.request("txt2img", FIELDS).images
    pressed(host, gallery, about)
    unet = host.shared.sd_model.model.diffusion_model
    handle = unet.register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        pressed(host, gallery, about)
    handle.remove()
    assert host.request("txt2img", FIELDS).images == wanted
    host.script_callbacks.script_unloaded_callback()
    assert host.txt2img.txt2img_upscale is host.plain_upscale
