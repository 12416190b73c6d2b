"""Short memory in the real WebUI: the clip is the same, and its infotext names the fallbacks.

The fixture compares the host with a fresh one after each case.
"""
from __future__ import annotations

import numpy as np
import pytest
from clip_reading import stills
from test_webui_generation import EIGHT, EULER, PROMPT

LONG = {**EIGHT, "video_length": 20, "batch_size": 8, "overlap": 2, "returns": "frames"}
ONE, APART = "windows are denoised one by one", "prompt and negative prompt are denoised apart"
PARTS = "attention is computed in parts"
OPTION = "animatediff_windows_per_call"


def clip(host, settings, **fields):
    answer = host.txt2img({**settings, "returns": "frames"}, **{"prompt": PROMPT, **EULER, "steps": 4, **fields})
    return stills(answer).astype(int), answer.info["infotexts"][0], \
        answer.info["extra_generation_params"]["AnimateDiff notes"]


@pytest.mark.parametrize("fault, rungs, rows", [
    (dict(rows=32), [], {32, 16}), (dict(rows=16), [ONE], {32, 16}), (dict(rows=8), [ONE, APART], {32, 16, 8}),
    (dict(parts=True), [ONE, APART, PARTS], {32, 16, 8})], ids=["enough", "one", "apart", "parts"])  # fmt: skip
def test_the_clip_is_the_same(host, fault, rungs, rows):
    expected, text, notes = clip(host, LONG)
    assert "memory" not in text and notes == []
    host.post("/test-probe/options", {OPTION: 2})
    host.fault("OutOfMemory", 1, **fault)
    host.watch()
    found, text, notes = clip(host, LONG)
    assert {call["rows"] for call in host.unet_calls()} == rows
    assert np.abs(found - expected).mean() < 0.1 and np.abs(found - expected).max() <= 3
    assert notes == [f"memory was short: {rung}" for rung in rungs]
    assert (f"AnimateDiff memory: {'; '.join(rungs)}" in text) if rungs else "memory" not in text


@pytest.mark.parametrize("fields", [
    {"enable_hr": True, "hr_scale": 1.5, "hr_upscaler": "Latent", "denoising_strength": 0.7},
    {"prompt": f"{PROMPT} AND white background :0.3"}, {"sampler_name": "DDIM"}, {"cfg_scale": 1},
], ids=lambda fields: next(iter(fields)))  # fmt: skip
def test_with_what_the_host_does(host, fields):
    expected, _, _ = clip(host, EIGHT, **fields)
    host.fault("OutOfMemory", 1, rows=8)
    found, text, notes = clip(host, EIGHT, **fields)
    assert np.abs(found - expected).max() <= 3 and f"AnimateDiff memory: {APART}" in text, notes


def test_in_the_middle_of_a_run(host):
    expected, _, _ = clip(host, {**EIGHT, "speed": "balanced"}, steps=10)
    host.fault("OutOfMemory", 4, rows=8)
    found, _, notes = clip(host, {**EIGHT, "speed": "balanced"}, steps=10)
    assert np.abs(found - expected).max() <= 3 and f"memory was short: {APART}" in notes

