"""A finished clip refined in a real WebUI: img2img of its frames in windows, with the WebUI's own upscalers."""
from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
import pytest
from clip_reading import stills
from PIL import Image
from test_webui_generation import EULER, FRAMES

from animatediff.media import read

CLIP = {**FRAMES, "video_length": 6, "batch_size": 4, "overlap": 1, "format": ["APNG"], "returns": "clip"}
REQUEST = {**EULER, "prompt": "a red square at rest", "negative_prompt": "blue", "steps": 4}


@pytest.fixture
def clip(host):
    """The path of a clip that the WebUI has made."""
    return made(host)


def made(host, **settings):
    [path] = host.txt2img({**CLIP, **settings}, **REQUEST).expect().info["extra_generation_params"]["AnimateDiff files"]
    return path


def refined(host, file, **values):
    return host.post("/test-probe/refine", {"file": file, "values": values}).expect().body


def frames(path):
    return np.stack([np.asarray(picture) for picture in read.pictures(path)])


def test_it_is_img2img_of_the_clips_frames(host, clip):
    before = host.get("/test-probe/state").expect().body
    told = refined(host, clip, denoising_strength=0.6, scale=2)
    assert told["frames"] == 6 and told["size"] == [128, 128] and not told["notes"], told
    assert host.get("/test-probe/state").expect().body == before
    start = [base64.b64encode(png(frame, 128)).decode() for frame in frames(clip)]
    wanted = stills(host.img2img(start, {**CLIP, "returns": "frames", "format": ["PNG"]}, width=128, height=128,
                                 denoising_strength=0.6, **REQUEST))
    assert np.abs(frames(told["paths"][0]).astype(int) - wanted).max() <= 1
    assert "a red square at rest\nNegative prompt: blue" in told["text"] and "AnimateDiff refined" in told["text"]


def png(frame, side):
    import io

    data = io.BytesIO()
    Image.fromarray(frame).resize((side, side), Image.Resampling.LANCZOS).save(data, "PNG")
    return data.getvalue()


def test_what_is_given_overrides(host, clip):
    told = refined(host, clip, prompt="a blue circle", steps=6, seed=9, sampler_name="DPM++ 2M Karras", scale=1,
                   denoising_strength=0.9, cfg_scale=3, format=["GIF"], context_length=3)
    assert told["text"].startswith("a blue circle\nNegative prompt: blue\nSteps: 6, Sampler: DPM++ 2M, Schedule type: "
                                   "Karras, CFG scale: 3.0, Seed: 9"), told
    assert "context_length: 3" in told["text"] and told["paths"][0].endswith(".gif")


def test_the_hosts_upscalers(host, clip):
    told = refined(host, clip, upscaler="Nearest", denoising_strength=0, scale=2)
    assert np.array_equal(frames(told["paths"][0]), frames(clip).repeat(2, 1).repeat(2, 2))
    latent = refined(host, clip, upscaler="Latent", denoising_strength=0.8, scale=1.5)
    assert latent["size"] == [96, 96] and latent["frames"] == 6
    assert "there is no upscaler" in refined(host, clip, upscaler="Gone")["error"]


def test_ping_pong_stays_ping_pong(host):
    told = refined(host, made(host, closed_loop="ping-pong", video_length=4), scale=1)
    found = frames(told["paths"][0])
    assert len(found) == told["frames"] == 6 and np.array_equal(found[1], found[5])


def test_a_refined_clip_can_be_refined(host, clip):
    first = refined(host, clip, scale=1, prompt="a green circle")
    again = refined(host, first["paths"][0], scale=1)
    assert again["frames"] == 6 and again["text"].startswith("a green circle"), again
    assert Path(again["paths"][0]).exists() and "Traceback" not in host.log()
