"""The schedule "views" (windows inside the motion module) in the real WebUI."""
from __future__ import annotations

import numpy as np
import pytest
from clip_reading import assert_one_clip, stills
from test_webui_generation import EULER, FRAMES, PROMPT, stranger  # noqa: F401

from animatediff.engine.pipeline import Pipeline
from animatediff.settings import Settings

VIEWS = {**FRAMES, "video_length": 20, "batch_size": 8, "overlap": 3, "context_schedule": "views"}


@pytest.mark.parametrize("settings, fields", [
    ({}, {}), ({"closed_loop": "seamless"}, {}), ({}, {"override_settings": {"batch_cond_uncond": False}}),
    ({}, {"prompt": f"{PROMPT} AND white background :0.3"}), ({"noise": "FreeNoise"}, {}),
], ids=str)  # fmt: skip
def test_a_long_clip_is_one_clip_in_one_call_a_step(host, stranger, settings, fields):
    host.watch()
    frames = stills(host.txt2img({**VIEWS, **settings}, **{"prompt": PROMPT, **EULER, **fields}))
    calls = host.unet_calls()
    roles = 3 if "prompt" in fields else 2
    apart = "override_settings" in fields
    assert len(frames) == 20 and {call["rows"] for call in calls} == {20 if apart else 20 * roles}
    assert len(calls) == EULER["steps"] * (roles if apart else 1)
    assert_one_clip(frames, stranger)


@pytest.mark.parametrize("loop", ["none", "seamless"])
def test_it_is_the_engines_clip(host, loop):
    """The engine is tested against diffusers' FreeNoise. Mean difference, of 255."""
    settings = Settings(enable=True, prompt=PROMPT, seed=3, steps=5, sampler="Euler", frames=20, context_length=8,
                        overlap=3, cfg=5.0, context_schedule="views", closed_loop=loop)
    ours = np.stack(list(Pipeline.load().render(settings))).astype(float)
    theirs = stills(host.txt2img({**VIEWS, "closed_loop": loop}, prompt=PROMPT, seed=3, steps=5, cfg_scale=5.0,
                                 sampler_name="Euler")).astype(float)
    assert np.abs(ours - theirs).mean() < 2 < np.abs(ours[::-1] - theirs).mean()


def test_hires_fix_and_img2img(host, stranger):
    fields = dict(enable_hr=True, hr_scale=1.5, hr_upscaler="Latent", hr_second_pass_steps=6, denoising_strength=0.6)
    frames = stills(host.txt2img(VIEWS, prompt=PROMPT, **EULER, **fields))
    assert_one_clip(frames, stranger)
    again = stills(host.img2img([host.txt2img(prompt=PROMPT, seed=2, steps=8).images[0]], VIEWS, prompt=PROMPT, seed=2,
                                steps=12, denoising_strength=0.9, sampler_name="Euler"))
    assert len(again) == 20
    assert_one_clip(again, stranger)
