"""The real host against the stored traces of its calls. FORGE_RECORD=1 writes new traces."""
from __future__ import annotations

import os
from pathlib import Path

import calls_traced
import pytest
from webui_host import FORGE, NEO, REFORGE, Host

THERE = [kind for kind in (FORGE, REFORGE, NEO) if kind.folder]
pytestmark = pytest.mark.skipif(not THERE, reason="needs FORGE_DIR, REFORGE_DIR or NEO_DIR (see webui_host.py)")


@pytest.fixture(scope="module", params=THERE, ids=lambda kind: kind.name)
def recorder(request, tmp_path_factory):
    kind = request.param
    host = Host(tmp_path_factory.mktemp("calls"), {"call-recorder": Path(__file__).parent / "recorder"}, kind=kind)
    try:
        yield host.start()
    finally:
        host.stop()


@pytest.mark.parametrize("name", calls_traced.JOBS)
def test_the_host_calls_its_unet_as_stored(recorder, name):
    recorder.txt2img(steps=1).expect()  # loads the checkpoint
    recorder.post("/call-recorder/begin", {}).expect()
    recorder.txt2img(**{**calls_traced.COMMON, **calls_traced.JOBS[name]}).expect()
    events = recorder.post("/call-recorder/end", {}).expect().body
    if os.environ.get("FORGE_RECORD"):
        calls_traced.write(recorder.kind.name, name, events)
    assert events == calls_traced.read(recorder.kind.name, name)
