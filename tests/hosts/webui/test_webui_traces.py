"""The real host against the stored traces, from which the stand-in was built and tested.

WEBUI_RECORD=1 writes new traces from this host.
"""
from __future__ import annotations

import base64
import io
import os

import pytest
import trace_jobs
from PIL import Image
from webui_host import Host


@pytest.fixture(scope="module")
def recorder(tmp_path_factory):
    """A WebUI with the recorder as its only extension."""
    host = Host(tmp_path_factory.mktemp("recorder"), {"animatediff-trace-recorder": trace_jobs.RECORDER})
    try:
        yield host.start()
    finally:
        host.stop()


def record(host: Host, name: str) -> dict:
    tab, fields, plan = trace_jobs.JOBS[name]
    request = {**trace_jobs.COMMON, **fields}
    if tab == "img2img":
        picture = io.BytesIO()
        Image.linear_gradient("L").resize((64, 64)).convert("RGB").save(picture, "PNG")
        request["init_images"] = [base64.b64encode(picture.getvalue()).decode()]
    host.txt2img(steps=1).expect()  # loads the checkpoint of the settings
    host.post("/trace-recorder/begin", plan).expect()
    answer = host.post(f"/sdapi/v1/{tab}", request)
    events = host.post("/trace-recorder/end", {}).expect().body
    end = {"images": len(answer.images)} if answer.ok else {"error": answer.body["error"],
                                                            "errors": answer.body["errors"]}
    return {"tab": tab, "request": fields, "plan": plan, "status": answer.status, **end, "events": events}


@pytest.mark.parametrize("name", trace_jobs.JOBS)
def test_the_host_does_what_the_stored_trace_says(recorder, name):
    found = record(recorder, name)
    if os.environ.get("WEBUI_RECORD"):
        trace_jobs.write(name, found)
    assert trace_jobs.lines(found) == trace_jobs.lines(trace_jobs.read(name))

