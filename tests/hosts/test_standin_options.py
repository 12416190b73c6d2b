"""The host's options keep the user's values while a clip is made, and keep changes that the user makes meanwhile."""
from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from slow_cases import slow

from animatediff.media import metadata

REQUEST = {"prompt": "a red circle", "width": 64, "height": 64, "steps": 4, "seed": 7, "sampler_name": "Euler"}
CLIP = {"enable": True, "model": "moving.safetensors", "video_length": 5, "batch_size": 3, "overlap": 1,
        "format": ["GIF"], "returns": "frames", "closed_loop": "seamless", "seam_repair": 0.5}


def made(host, tab, hook=lambda: None, **fields):
    if tab == "img2img":
        fields |= {"init_images": [Image.new("RGB", (64, 64), "red")], "denoising_strength": 0.7}
    unet = host.shared.sd_model.model.diffusion_model
    handle = unet.register_forward_pre_hook(lambda *_: hook())
    try:
        answer = host.request(tab, {**REQUEST, **fields}, {"AnimateDiff": [CLIP]})
    finally:
        handle.remove()
    assert answer.status == 200, answer
    return answer.images


def pixels(raw):
    return np.array(Image.open(io.BytesIO(raw)).convert("RGB"), int)


def test_clips_carry_an_infotext_unless_the_hosts_option_is_off(host):
    def texts():
        answer = host.request("txt2img", REQUEST, {"AnimateDiff": [{**CLIP, "format": ["GIF", "PNG", "MP4", "TXT"]}]})
        assert "Steps: 4" in answer.info["infotexts"][0]
        files = [path for path in (host.data / "outputs").rglob("*") if path.is_file()]
        found = {path.suffix: metadata.read(path) or "" for path in files}
        assert found.keys() == {".gif", ".png", ".mp4", ".txt"}
        for path in files:
            path.unlink()
        return found

    assert all("Steps: 4" in text for text in texts().values())
    host.opts.data["enable_pnginfo"] = False
    assert {suffix for suffix, text in texts().items() if text} == {".txt"}


WAYS = [("txt2img", {}), slow("txt2img", {"sampler_name": "DDIM"}), slow("txt2img", {"enable_hr": True}),
        slow("img2img", {})]
CHOSEN = {"batch_cond_uncond": False, "img2img_fix_steps": True, "img2img_extra_noise": 0.2}


@pytest.mark.parametrize("tab, fields", WAYS, ids=str)
def test_while_a_clip_is_made_the_options_are_what_the_user_chose(host, tab, fields):
    host.opts.data.update(CHOSEN)
    saved = []  # what "Apply settings" would write at each call of the UNet
    made(host, tab, lambda: saved.append(dict(host.opts.data)), **fields)
    assert saved and all(options == host.opts.data for options in saved)
    assert CHOSEN.items() <= host.opts.data.items()


@pytest.mark.parametrize("tab, fields", WAYS, ids=str)
def test_what_is_changed_while_a_clip_is_made_stays_and_changes_nothing_about_it(host, tab, fields):
    wanted = made(host, tab, **fields)

    def apply_settings():
        host.opts.set("batch_cond_uncond", False)

    for one, other in zip(made(host, tab, apply_settings, **fields), wanted, strict=True):  # with Hires. fix too
        assert np.abs(pixels(one) - pixels(other)).max() <= 1
    assert host.opts.batch_cond_uncond is False
    assert host.opts.data["batch_cond_uncond"] is False


@pytest.mark.slow
def test_a_repair_of_the_seam_takes_no_notice_of_what_is_for_img2img_alone(host):
    wanted = made(host, "txt2img")
    host.opts.data.update(CHOSEN, batch_cond_uncond=True)
    assert made(host, "txt2img") == wanted


@pytest.mark.slow
def test_modules_of_the_host_read_the_options_themselves_again_afterwards(host):
    from modules import sd_samplers_cfg_denoiser, sd_samplers_common, sd_samplers_kdiffusion, sd_samplers_timesteps

    def fail():
        raise RuntimeError("on purpose")

    modules = sd_samplers_cfg_denoiser, sd_samplers_common, sd_samplers_kdiffusion, sd_samplers_timesteps
    before = [dict(vars(module)) for module in modules]
    made(host, "txt2img")
    with pytest.raises(AssertionError, match="on purpose"):
        made(host, "txt2img", fail)
    assert [vars(module) for module in modules] == before
