"""The stand-in runs a job like the real host: the same recorder's output is compared with the stored traces."""
from __future__ import annotations

import sys
from pathlib import Path

import pytest
from PIL import Image

STANDIN = Path(__file__).parent / "standin"
sys.path.append(str(STANDIN / "traces"))

import trace_jobs  # noqa: E402


@pytest.fixture
def standing_in(monkeypatch):
    monkeypatch.syspath_prepend(str(STANDIN))
    import standin_host

    return standin_host.standing_in


@pytest.fixture
def recorder(standing_in, tmp_path):
    with standing_in(tmp_path) as host:
        host.recorder = host.load(trace_jobs.RECORDER / "scripts" / "animatediff_trace_recorder.py")
        host.show()
        yield host


def record(host, name: str) -> dict:
    tab, fields, plan = trace_jobs.JOBS[name]
    request = {**trace_jobs.COMMON, **fields}
    if tab == "img2img":
        request["init_images"] = [Image.linear_gradient("L").resize((64, 64))]
    host.recorder.begin(plan)
    answer = host.request(tab, request)
    events = host.recorder.end()
    end = {"images": len(answer.images)} if answer.status == 200 else {"error": answer.error, "errors": answer.errors}
    return host.api.plain({"tab": tab, "request": fields, "plan": plan,
                           "status": answer.status, **end, "events": events})


@pytest.mark.parametrize("name", trace_jobs.JOBS)
def test_a_job_goes_as_in_the_real_host(recorder, name):
    assert trace_jobs.lines(record(recorder, name)) == trace_jobs.lines(trace_jobs.read(name))


def test_nothing_of_the_stand_in_stays_behind(standing_in, tmp_path):
    import animatediff.hosts

    before, path, package = dict(sys.modules), list(sys.path), animatediff.hosts
    with standing_in(tmp_path):
        assert sys.modules["modules"].__file__.startswith(str(STANDIN))
    assert sys.path == path
    assert animatediff.hosts is package
    left = {name for name in sys.modules if name not in before}
    assert not [n for n in left if n.split(".")[0] in ("modules", "fastapi", "api")]
    assert all(sys.modules[name] is module for name, module in before.items())


def test_the_stand_ins_unet_has_the_places_of_sd15(standing_in, tmp_path):
    from animatediff.unet.places import find_places

    with standing_in(tmp_path) as host:
        places = find_places(host.shared.sd_model.model.diffusion_model)
    assert places.base == "SD1.5" and places.widths == (32, 32, 32, 32) and len(places.sites) == 21
