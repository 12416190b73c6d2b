"""Extensions that change the UNet or the sampling, beside a clip in the WebUI.

    WEBUI_EXTENSIONS  a folder with sd-dynamic-thresholding (mcmonkeyprojects), sd-webui-incantations (v0xie) and
                      sd-webui-regional-prompter (hako-mikan); those that are missing are skipped

A motion module whose last layers are zero does not connect frames. So a clip must be the host's batch of pictures with
the same extension, on the checkpoint with the motion module's schedule.
"""
from __future__ import annotations

import numpy as np
import pytest
from clip_reading import stills
from real_host import HERE
from test_neighbours import FRAMES, STILL, THEIRS, prepare
from webui_host import ROOT, Host

FOLDERS = ("sd-dynamic-thresholding", "sd-webui-incantations", "sd-webui-regional-prompter")
REGIONS = {"prompt": "a red circle BREAK a blue square"}
CASES = {  # name -> (folder, script, values by their place, further fields)
    "Dynamic Thresholding": (FOLDERS[0], "dynamic thresholding (cfg scale fix)", {0: True, 1: 2.0}, {}),
    "PAG": (FOLDERS[1], "incantations", {12: True, 13: 100.0}, {}),
    "Regional Prompter, Attention": (FOLDERS[2], "regional prompter", {0: True}, REGIONS),
    "Regional Prompter, Latent": (FOLDERS[2], "regional prompter", {0: True, 11: "Latent"}, REGIONS),
}


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    there = {name: THEIRS / name for name in FOLDERS if (THEIRS / name).is_dir()}
    if not there:
        pytest.skip("needs WEBUI_EXTENSIONS with one of " + ", ".join(FOLDERS))
    folder = tmp_path_factory.mktemp("sampling")
    host = Host(folder, {"animatediff": ROOT, "animatediff-test-probe": HERE / "probe", **there},
                {"animatediff_model_path": str(folder / "motion")})
    prepare(host)
    try:
        yield host.start()
    finally:
        host.stop()


@pytest.mark.parametrize("settings", [{"batch_size": FRAMES, "overlap": 0}, {}], ids=["one window", "windows"])
@pytest.mark.parametrize("name", CASES)
def test_a_clip_without_motion_is_the_hosts_batch(host, name, settings):
    folder, script, values, fields = CASES[name]
    if not (THEIRS / folder).is_dir():
        pytest.skip(f"needs {folder} in WEBUI_EXTENSIONS")
    plain = host.plain()
    [found] = [one for one in host.get("/sdapi/v1/script-info").expect().body
               if one["name"] == script and not one["is_img2img"]]
    args = [values.get(place, arg["value"]) for place, arg in enumerate(found["args"])]
    fields = {"prompt": "a red circle", "steps": 4, "seed": 40, "sampler_name": "Euler", **fields}
    on = {"alwayson_scripts": {script: {"args": args}}}
    same = {"batch_size": FRAMES, "override_settings": {"sd_model_checkpoint": "linear.safetensors",
                                                        "pad_cond_uncond": True}}
    clip = stills(host.txt2img({**STILL, **settings}, **fields, **on)).astype(float)[:FRAMES]
    batch = stills(host.txt2img(**fields, **on, **same)).astype(float)[:FRAMES]
    off = stills(host.txt2img(**fields, **same)).astype(float)[:FRAMES]
    assert np.abs(clip - batch).mean() < 0.1
    assert np.abs(batch - off).mean() > 0.1
    assert host.plain() == plain
