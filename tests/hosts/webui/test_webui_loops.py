"""Closed loops in the real WebUI."""
from __future__ import annotations

import re

import numpy as np
import pytest
from clip_reading import stills
from test_webui_generation import EULER, FRAMES

from benchmarks.measure import track

REST = {**EULER, "prompt": "a red square at rest"}


def score(frames: np.ndarray) -> float:
    """Return the loop score by its definition, in float64."""
    x = frames.astype(float)
    return np.abs(x[-1] - x[0]).mean() / max(np.median(np.abs(np.diff(x, axis=0)).mean((1, 2, 3))), 0.25)


def clip(host, settings, **fields):
    return stills(host.txt2img({**FRAMES, **settings}, **{**REST, **fields}))


def changed(a, b, least=0.0):
    """Return the frames whose mean difference is more than `least` of 255."""
    return [i for i in range(len(a)) if np.abs(a[i].astype(float) - b[i]).mean() > least]


@pytest.mark.parametrize("frames", [8, 11])
def test_ping_pong_is_the_open_clip_to_and_fro(host, frames):
    settings = {"video_length": frames, "overlap": 2}
    there, both = clip(host, settings, steps=6), clip(host, {**settings, "closed_loop": "ping-pong"}, steps=6)
    assert (both == np.concatenate([there, there[-2:0:-1]])).all()


@pytest.mark.parametrize("settings", [{"video_length": 16, "batch_size": 16},
                                      {"video_length": 20, "batch_size": 16}], ids=str)
def test_a_seamless_clip_closes(host, settings):
    open_, closed = clip(host, settings), clip(host, {**settings, "closed_loop": "seamless"})
    assert score(closed) < 1.5 and score(closed) < 0.6 * score(open_), (score(open_), score(closed))
    seen = [sight for sight in track(list(closed))[0] if sight and sight.colour == "red"]
    assert len(seen) > 0.8 * len(closed), "closed, and still what was asked for"


def test_the_score_is_in_the_infotext_and_the_notes(host):
    answer = host.txt2img({**FRAMES, "closed_loop": "seamless"}, **{**REST, "steps": 6}).expect()
    expected = f"{score(stills(answer)):.2f}"
    assert re.search(r"AnimateDiff loop score: ([\d.]+)", answer.info["infotexts"][0])[1] == expected
    assert answer.info["extra_generation_params"]["AnimateDiff notes"][-1].startswith(f"loop score {expected} ")


@pytest.mark.parametrize("fields", [
    {}, {"sampler_name": "Euler a"}, {"sampler_name": "DPM++ 2M", "scheduler": "Karras"}, {"sampler_name": "DPM++ SDE"},
    {"sampler_name": "DDIM"}, {"sampler_name": "UniPC"}, {"sampler_name": "Heun"}, {"sampler_name": "Restart"},
    {"override_settings": {"batch_cond_uncond": False}}, {"cfg_scale": 1},
    {"override_settings": {"img2img_fix_steps": True}}, {"prompt": "a red square at rest AND white background :0.3"},
    {"enable_hr": True, "hr_scale": 1.5, "hr_upscaler": "Latent", "hr_second_pass_steps": 6, "denoising_strength": 0.6},
    {"refiner_checkpoint": "second", "refiner_switch_at": 0.5},
], ids=str)  # fmt: skip
def test_a_repair_changes_the_frames_around_the_seam_and_no_others(host, fields):
    settings = {"video_length": 10, "batch_size": 8, "overlap": 2}
    without = clip(host, settings, **{"steps": 8, **fields})
    repaired = clip(host, {**settings, "seam_repair": 1}, **{"steps": 8, **fields})
    assert set(changed(without, repaired)) <= {0, 1, 2, 7, 8, 9} and {0, 9} <= set(changed(without, repaired))
    assert score(repaired) < score(without), (score(without), score(repaired))


def test_a_repair_of_img2img(host):
    source = host.txt2img(prompt=REST["prompt"], seed=2, steps=8).images[:1]
    found = [stills(host.img2img(source, {**FRAMES, "seam_repair": s}, prompt="a red square moving right", seed=2,
                                 steps=12, denoising_strength=0.9, sampler_name="Euler")) for s in (0, 0.7)]
    # The host's own img2img may differ by a level in some pixels between runs.
    assert changed(*found, least=0.1) == [0, 1, 2, 5, 6, 7] and score(found[1]) < score(found[0])


def test_the_preflight_counts_the_repair(host):
    request = {"steps": 20, "alwayson_scripts": {"AnimateDiff": {"args": [{**FRAMES, "seam_repair": 0.5}]}}}
    assert host.post("/animatediff/v1/preflight", request).expect().body["unet_calls"] == 20 + 11
