"""The preset "few steps" over the API and on the page, and the notes on distilled models, in the stand-in."""
from __future__ import annotations

import pytest

LIGHTNING = "animatediff_lightning_4step_comfyui.safetensors"


@pytest.fixture
def lightning(host):
    from animatediff.hosts.a1111 import library

    moving = library.find("moving.safetensors")
    moving.with_name(LIGHTNING).write_bytes(moving.read_bytes())
    return LIGHTNING


def clip(module, **more):
    return {"enable": True, "model": module, "video_length": 1, "format": ["GIF"], **more}


@pytest.mark.parametrize("fields, steps, cfg", [({}, 4, 1.0), ({"steps": 3, "cfg_scale": 2.0}, 3, 2.0)])
def test_a_request_has_what_it_does_not_give(fields, steps, cfg, host, lightning, monkeypatch):
    from animatediff.hosts.a1111 import api, job

    seen = {}

    class Job(job.Job):
        def prepare(self):
            self.p.is_api = True  # the host's API sets this
            super().prepare()
            seen.update(steps=self.p.steps, cfg=self.p.cfg_scale)

    monkeypatch.setattr(job, "Job", Job)
    body = {"width": 64, "height": 64, "prompt": "a red circle", **fields}
    args = [clip(lightning, preset="few steps")]
    answer = host.request("txt2img", body, {"AnimateDiff": args})
    assert answer.status == 200 and seen == {"steps": steps, "cfg": cfg}
    told = api.preflight({**body, "alwayson_scripts": {"AnimateDiff": {"args": args}}})
    assert told["unet_calls"] == steps


def test_the_preflight_tells_what_does_not_suit(host, lightning):
    from animatediff.hosts.a1111 import api

    def notes(**fields):
        body = {"prompt": "x", "width": 64, "height": 64, **fields,
                "alwayson_scripts": {"AnimateDiff": {"args": [clip(lightning)]}}}
        return [note for note in api.preflight(body)["notices"] if "distilled" in note or "trained for the" in note]

    assert "CFG 1 and 4 steps" in notes(sampler_name="Euler", steps=20)[0]
    assert "999, 666, 333, 0" in notes(sampler_name="Euler", steps=4, cfg_scale=1)[0]
    assert "are others" in notes(sampler_name="DDIM", steps=4, cfg_scale=1)[0]
    assert not notes(sampler_name="Euler", scheduler="SGM Uniform", steps=4, cfg_scale=1)
