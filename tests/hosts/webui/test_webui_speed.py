"""The speed presets in the real WebUI, against exact clips and those of the standalone engine.

The engine's UNet has another layout.
"""
from __future__ import annotations

import numpy as np
import pytest
from clip_reading import stills
from test_webui_failures import refused
from test_webui_generation import EIGHT, EULER, FRAMES, PROMPT
from test_webui_motion_scale import HIRES, clip
from webui_host import A1111

from animatediff.engine.pipeline import Pipeline
from animatediff.settings import Settings


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    assert a.shape == b.shape
    return 10 * float(np.log10(255**2 / ((a.astype(float) - b) ** 2).mean()))




def pair(host, fields: dict, speed: str = "draft", **settings) -> tuple[np.ndarray, np.ndarray]:
    return clip(host, fields, speed=speed, **settings), clip(host, fields, **settings)


@pytest.mark.parametrize(("sampler", "frames", "speed"), [("Euler", 8, "draft"), ("Euler", 20, "balanced"),
                                                          ("Heun", 8, "draft")])
def test_the_same_seed_gives_the_engines_clip(host, sampler, frames, speed):
    """Mean difference, of 255. The rest comes from other attention kernels and rounding, as for exact clips."""
    steps = 12
    asked = Settings(enable=True, prompt=PROMPT, seed=3, steps=steps, sampler=sampler, frames=frames, speed=speed)
    ours = np.stack(list(Pipeline.load().render(asked))).astype(float)
    fields = {"sampler_name": sampler, "steps": steps, "seed": 3, "cfg_scale": 5.0}
    theirs = clip(host, fields, video_length=frames, batch_size=16, speed=speed).astype(float)
    assert np.abs(ours - theirs).mean() < 2
    full = clip(host, fields, video_length=frames, batch_size=16)
    assert np.abs(theirs - full).mean() > 0.05 and psnr(theirs, full) > 22


def test_a_draft_is_near_the_clip_and_says_what_it_did(host):
    answer = host.txt2img({**FRAMES, "speed": "draft"}, prompt=PROMPT, **EULER).expect()
    found, full = stills(answer), clip(host)
    assert psnr(found, full) > 25 and not np.array_equal(found, full)
    assert np.array_equal(clip(host, speed="draft"), found), "the same clip again"
    assert "speed: draft" in answer.info["infotexts"][0]
    notes = answer.info["extra_generation_params"]["AnimateDiff notes"]
    assert "speed draft: the UNet ran as a whole for 8 of 20 windows" in notes
    assert psnr(clip(host, speed="balanced"), full) > psnr(found, full)
    exact, whole = pair(host, {"steps": 7})
    rounding = 0 if host.kind is A1111 else 1  # Forge's family computes x₀ from ε and back
    assert np.abs(whole.astype(int) - exact).max() <= rounding, "few steps are whole"


@pytest.mark.parametrize("fields", [
    HIRES, {"cfg_scale": 1}, {"sampler_name": "DDIM"}, {"sampler_name": "DPM++ 2M SDE"}, {"sampler_name": "Restart"},
    {"n_iter": 2}, {"prompt": f"{PROMPT} AND a circle :0.3"},
    {"refiner_checkpoint": "second", "refiner_switch_at": 0.5}, {"override_settings": {"batch_cond_uncond": False}},
    {"override_settings": {"s_min_uncond_all": True}, "s_min_uncond": 3.0}, {"width": 96, "height": 64},
], ids=lambda f: str(f)[:60])  # fmt: skip
def test_every_kind_of_pass(host, fields):
    found, full = pair(host, {"steps": 20, **fields})
    assert psnr(found, full) > (20 if fields == HIRES or "AND" in str(fields) else 22)


@pytest.mark.parametrize("settings", [
    {"video_length": 20, "batch_size": 16, "closed_loop": "seamless"}, {"freeinit_iterations": 2}, {"seam_repair": 0.5},
], ids=str)  # fmt: skip
def test_other_ways_to_sample(host, settings):
    found, full = pair(host, {"steps": 12}, **settings)
    assert psnr(found, full) > 22


def test_img2img(host):
    source = host.txt2img(prompt=PROMPT, seed=2, steps=8).images[:1]
    fields = dict(prompt=PROMPT, seed=2, steps=20, denoising_strength=0.8, sampler_name="Euler")
    found, full = (stills(host.img2img(source, {**FRAMES, "speed": speed}, **fields)) for speed in ("draft", "exact"))
    assert psnr(found, full) > 25 and not np.array_equal(found, full)


def test_bad_input_is_refused_with_a_message(host, files):
    refused(host.txt2img({**EIGHT, "speed": "fast"}, prompt=PROMPT), "speed", "draft")
    assert files() == []


@pytest.mark.parametrize("kind", ["RuntimeError", "OutOfMemory", "interrupt"])
def test_faults_in_a_reusing_step_are_undone(host, kind):
    """The third call is the first that reuses."""
    host.fault(kind, call=3)
    host.txt2img({**EIGHT, "speed": "draft"}, prompt=PROMPT, **EULER)
