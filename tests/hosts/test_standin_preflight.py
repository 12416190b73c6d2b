"""The API's preflight of a request, against the calls that the same request makes in the stand-in."""
from __future__ import annotations

import pytest
from PIL import Image
from slow_cases import slow


@pytest.mark.parametrize("tab, fields", [
    ("txt2img", {}), slow("txt2img", {"sampler_index": "DDIM", "n_iter": 2}), slow("img2img", {}),
    slow("txt2img", {"sampler_name": "DDIM", "enable_hr": True, "hr_second_pass_steps": 7}),
], ids=str)
def test_what_a_request_leaves_out_is_the_apis_default(host, tab, fields):
    from animatediff.hosts.a1111 import api

    clip = {"enable": True, "model": "moving.safetensors", "video_length": 1, "format": ["GIF"]}
    size = {"width": 64, "height": 64}
    body = {"prompt": "a red circle", **size, **fields, "alwayson_scripts": {"AnimateDiff": {"args": [clip]}}}
    if tab == "img2img":
        body["init_images"] = ["the picture"]
        fields = {**fields, "init_images": [Image.new("RGB", (64, 64), "red")]}
    told = api.preflight(body)
    calls = []
    unet = host.shared.sd_model.model.diffusion_model
    unet.register_forward_pre_hook(lambda *_: calls.append(1))
    assert host.request(tab, {"prompt": "a red circle", **size, **fields}, {"AnimateDiff": [clip]}).status == 200
    assert told["unet_calls"] == len(calls) > 30 * (fields.get("denoising_strength", 1))
