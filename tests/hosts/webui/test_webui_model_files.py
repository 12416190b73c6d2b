"""Hostile, damaged and distilled model files in the folder of a real WebUI."""
from __future__ import annotations

import sys
from pathlib import Path

import pytest
from test_webui_generation import EIGHT, PROMPT
from webui_host import DEMO

sys.path.insert(0, str(Path(__file__).parents[2] / "weights"))
import hostile

LIGHTNING = "animatediff_lightning_4step_comfyui.safetensors"


@pytest.fixture
def bad(host):
    """All hostile files beside the good one, with a newly started WebUI."""
    paths = hostile.write(host.motion)
    host.restart()
    yield {path.name for path in paths.values()}
    for path in paths.values():
        path.unlink()
    host.restart()


def test_one_bad_file_stops_neither_the_start_nor_a_clip(host, bad):
    listed = host.get("/animatediff/v1/models").expect().body["models"]
    problems = {entry["name"]: entry.get("problem", "") for entry in listed}
    assert not problems.pop("motion.safetensors")
    assert problems.keys() == bad and all(problem.startswith(name) for name, problem in problems.items())
    assert "Traceback" not in host.log()
    automatic = {**EIGHT, "model": "", "video_length": 2}
    assert len(host.txt2img(automatic, prompt=PROMPT, steps=1).expect().images)
    for name in sorted(bad):
        answer = host.txt2img({**automatic, "model": name}, prompt=PROMPT, steps=1)
        assert answer.status == 422 and answer.detail.startswith(name), answer.detail


@pytest.fixture
def lightning(host):
    path = host.motion / LIGHTNING
    path.symlink_to(DEMO / "motion.safetensors")
    yield {**EIGHT, "model": LIGHTNING, "video_length": 2, "batch_size": 2}
    path.unlink()


def test_the_preset_fills_what_a_request_leaves_out(host, lightning):
    body = {"prompt": PROMPT, "width": 64, "height": 64, "seed": 1,
            "alwayson_scripts": {"AnimateDiff": {"args": [{**lightning, "preset": "few steps"}]}}}
    assert host.post("/animatediff/v1/preflight", body).expect().body["unet_calls"] == 4
    host.watch()
    info = host.post("/sdapi/v1/txt2img", body).expect().info
    assert "Steps: 4, Sampler: Euler, Schedule type: SGM Uniform, CFG scale: 1" in info["infotexts"][0]
    assert len(host.unet_calls()) == 4
    asked = {**body, "steps": 2, "cfg_scale": 2}
    info = host.post("/sdapi/v1/txt2img", asked).expect().info
    assert "Steps: 2, Sampler: Euler, Schedule type: SGM Uniform, CFG scale: 2" in info["infotexts"][0]


def test_notes_on_a_distilled_module(host, lightning):
    def notes(**fields):
        body = {"prompt": PROMPT, "width": 64, "height": 64, "seed": 1, **fields,
                "alwayson_scripts": {"AnimateDiff": {"args": [lightning]}}}
        found = host.post("/animatediff/v1/preflight", body).expect().body["notices"]
        said = host.post("/sdapi/v1/txt2img", body).expect().info["extra_generation_params"]["AnimateDiff notes"]
        told = [[note for note in each if "distilled" in note or "trained for the" in note] for each in (found, said)]
        assert told[0] == told[1]
        return told[0]

    assert "CFG 1 and 4 steps" in notes(sampler_name="Euler", steps=6)[0]
    assert "999, 666, 333, 0" in notes(sampler_name="Euler", steps=4, cfg_scale=1)[0]
    assert not notes(sampler_name="Euler", scheduler="SGM Uniform", steps=4, cfg_scale=1)
