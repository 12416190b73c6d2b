"""Errors that nobody expects in the hooks of a job. The host logs what a hook raises, and would go on silently."""
from __future__ import annotations

import importlib
import io

import pytest
from PIL import Image
from test_standin_adapter import animate, plain, snapshot


@pytest.fixture
def failing(host, monkeypatch):
    """failing("job", "Job", "begin_clip"): let this method or function of hosts.a1111 raise an error."""
    def fail(*args, **kwargs):
        raise RuntimeError("something odd")

    def failing(module, *names):
        *of, name = names
        owner = importlib.import_module(f"animatediff.hosts.a1111.{module}")
        for each in of:
            owner = getattr(owner, each)
        monkeypatch.setattr(owner, name, fail)

    return failing


@pytest.mark.parametrize("place", [("upscale", "settings_of"), ("library", "find"), ("travelling", "in_clip"),
                                   ("clip", "HostClip", "to_write"), ("job", "animated")])
def test_before_sampling_the_job_stops_and_says_so(host, failing, monkeypatch, place):
    pictures, before = plain(host), snapshot(host)
    with monkeypatch.context():
        failing(*place)
        answer = animate(host, {"video_length": 2})
    assert answer.status == 500 and "RuntimeError: something odd. The log has the details" in answer.detail
    assert not list((host.data / "outputs").rglob("*.gif"))
    monkeypatch.undo()
    assert snapshot(host) == before and plain(host) == pictures


@pytest.mark.parametrize(("place", "shown"), [
    (("clip", "HostClip", "add"), ["PNG", "PNG"]),  # the host's own frames
    (("results", "shown"), ["PNG", "PNG"]),
    (("clip", "HostClip", "notes"), ["GIF"])])
def test_after_sampling_the_job_goes_on_and_a_note_has_the_error(host, failing, place, shown):
    before = snapshot(host)
    failing(*place)
    answer = animate(host, {"video_length": 2})
    assert answer.status == 200
    assert [Image.open(io.BytesIO(raw)).format for raw in answer.images] == shown
    notes = answer.info["extra_generation_params"]["AnimateDiff notes"]
    assert [note.startswith("RuntimeError: something odd. The log has the details") for note in notes].count(True) == 1
    assert snapshot(host) == before
