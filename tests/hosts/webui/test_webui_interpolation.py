"""Frame interpolation in a real WebUI, with the older extension's parameter names."""
from __future__ import annotations

import base64
import io

import numpy as np
import pytest
import torch
from clip_reading import stills
from PIL import Image
from test_webui_generation import EULER, FRAMES
from torch import nn

from animatediff.media.interpolate import film

REST = {**EULER, "prompt": "a red square at rest"}
SHORT = {"video_length": 8, "overlap": 2}


def clip(host, settings):
    return stills(host.txt2img({**FRAMES, **SHORT, **settings}, **{**REST, "steps": 4}))


def test_twice_as_many_frames_of_which_every_second_is_the_clips_own(host):
    own, flow = clip(host, {}), clip(host, {"interp": "FILM", "interp_x": 2})
    assert len(flow) == 16 and (flow[::2] == own).all()
    off = np.abs(flow[1:-1:2].astype(float) - own[:-1]) + np.abs(flow[1:-1:2].astype(float) - own[1:])
    assert (off.mean((1, 2, 3)) > 0).all() and (flow[-1] == own[-1]).all()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_film_is_used_where_its_file_is_there(host):
    body = {"alwayson_scripts": {"AnimateDiff": {"args": [{"enable": True, **SHORT, "interp": "FILM"}]}}}
    told = host.post("/animatediff/v1/preflight", body).expect().body
    assert "8 → 16 frames, 16 fps, flow" in str(told) and "put film_net_fp32.pt into a folder" in str(told)
    root = nn.Module()
    for key, tensor in film.FilmNet(film.Layout(2, (2, 2, 2, 2))).state_dict().items():
        *path, name = key.split(".")
        place = root
        for part in path:
            if not hasattr(place, part):
                place.add_module(part, nn.Module())
            place = getattr(place, part)
        place.register_parameter(name, nn.Parameter(tensor))
    file = host.motion / "film_net_fp32.pt"
    torch.jit.script(root).save(str(file))
    try:
        told = host.post("/animatediff/v1/preflight", body).expect().body
        assert "8 → 16 frames, 16 fps, FILM (film_net_fp32.pt)" in str(told) and "put film" not in str(told)
        own, made = clip(host, {}), clip(host, {"interp": "FILM", "interp_x": 2})
        assert len(made) == 16 and (made[::2] == own).all() and (made[1:-1:2] != own[:-1]).any()
        assert file.name not in str(host.get("/animatediff/v1/models").expect().body)
    finally:
        file.unlink()


def test_ping_pong_stays_ping_pong(host):
    frames = clip(host, {"interp": "flow", "interp_x": 3, "closed_loop": "ping-pong"})
    assert len(frames) == 14 * 3 and all((frames[i] == frames[-i]).all() for i in range(1, len(frames)))


def test_the_file_plays_as_long_as_before_and_says_what_it_is(host):
    settings = {**FRAMES, **SHORT, "returns": "clip", "format": ["GIF"], "fps": 8, "interp": "blend", "interp_x": 4}
    answer = host.txt2img(settings, **{**REST, "steps": 4}).expect()
    assert not answer.info["extra_generation_params"]["AnimateDiff notes"]
    with Image.open(io.BytesIO(base64.b64decode(answer.body["images"][0]))) as gif:
        assert gif.n_frames == 32
        assert sum(gif.seek(i) or gif.info["duration"] for i in range(32)) == 1000
    assert "interp: blend" in answer.info["infotexts"][0] and "interp_x: 4" in answer.info["infotexts"][0]


def test_the_preflight_tells_frames_and_rate(host):
    body = {"alwayson_scripts": {"AnimateDiff": {"args": [{"enable": True, **SHORT, "interp": "flow", "interp_x": 3}]}}}
    told = host.post("/animatediff/v1/preflight", body).expect().body
    assert "Frame interpolation: 8 → 24 frames, 24 fps, flow" in told["lines"]
