"""Jobs: pushed frames, clips that lose some frames, and the files that remain after errors."""
from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from animatediff.clip import resume
from animatediff.clip.job import Clip, Job, Known, run
from animatediff.errors import MediaError
from animatediff.media import metadata
from animatediff.media.write import Target
from animatediff.sampling.events import Event

GREYS = range(0, 240, 40)


def frame(grey):
    return np.full((16, 16, 3), grey, np.uint8)


def described(name):
    def text(known: Known) -> str:
        return json.dumps({"name": name, "frames": known.frames, "score": known.loop and known.loop.value,
                           "memory": known.shortages})
    return text


def clip(folder, name="a", frames=6, formats=("GIF", "PNG"), **more):
    return Clip(frames, formats, 8, described(name), lambda taken: Target(f"{folder}/", name), **more)


def to_and_fro(count):
    return [*range(count), *range(count - 2, 0, -1)]


def colours(path):
    with Image.open(path) as image:
        return [image.seek(i) or image.convert("RGB").getpixel((0, 0))[0] for i in range(image.n_frames)]


def test_a_clip_is_written_as_it_comes(tmp_path):
    job = Job()
    job.begin(clip(tmp_path))
    for grey in GREYS:
        job.add(frame(grey))
    job.on_event(Event("note", 1, 1, text="less at once"))
    written = job.finish()
    assert written.paths[0] == tmp_path / "a.gif" and colours(written.paths[0]) == list(GREYS)
    assert written.frames == 6 and job.written == [written] and job.finish() is None
    about = json.loads(metadata.read(written.paths[0]))
    assert about["score"] == pytest.approx(written.loop.value) and about["memory"] == ["less at once"]


def test_a_clip_that_is_held_is_written_in_the_order_of_playback(tmp_path):
    job = Job()
    job.begin(clip(tmp_path, playback=to_and_fro))
    for grey in GREYS:
        assert not job.written and not list(tmp_path.iterdir())
        job.add(Image.fromarray(frame(grey)))
    written = job.finish()
    assert job.written == [written]
    assert colours(tmp_path / "a.gif") == [GREYS[i] for i in to_and_fro(6)] and len(written.held) == 10
    assert json.loads(metadata.read(written.paths[1]))["score"] == pytest.approx(written.loop.value)
    assert not written.notes


def test_a_clip_that_lost_a_frame_is_written_as_itself_when_the_next_begins(tmp_path):
    job = Job()
    for name in ("first", "second"):
        job.begin(clip(tmp_path, name, playback=range))
        for grey in GREYS[: 5 if name == "first" else 6]:
            job.add(Image.fromarray(frame(grey)))
    job.finish()
    first, second = job.written
    assert not second.notes and first.notes == ["the job ended after 5 of 6 frames"]
    assert (first.frames, second.frames) == (5, 6) and first.paths[0].stem == "first"
    assert json.loads(metadata.read(first.paths[0]))["name"] == "first"


def test_frames_that_are_held_outlive_files_that_cannot_be_written(tmp_path):
    (tmp_path / "taken").write_text("")
    job = Job()
    job.begin(clip(tmp_path / "taken", playback=range))
    for grey in GREYS:
        job.add(Image.fromarray(frame(grey)))
    written = job.finish()
    assert len(written.held) == 6 and not written.paths and "taken" in written.notes[0]


def test_no_frames_make_no_clip(tmp_path):
    job = Job()
    job.begin(clip(tmp_path, playback=range))
    assert job.finish() is None and job.fail(RuntimeError()) is None and not list(tmp_path.iterdir())


def test_a_clip_that_is_dropped_leaves_nothing(tmp_path):
    job = Job()
    job.begin(clip(tmp_path, playback=range))
    job.add(Image.fromarray(frame(0)))
    job.drop()
    assert job.finish() is None and not job.written and not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [KeyboardInterrupt, MediaError("broke")])
def test_a_run_keeps_what_is_finished(tmp_path, error):
    state = tmp_path / "a.state"
    state.write_text("")

    def frames(on_event, keeper):
        for grey in GREYS[:4]:
            yield frame(grey)
        raise error

    keeper = resume.Keeper(state)
    if error is KeyboardInterrupt:
        written = run(frames, clip(tmp_path), keeper)
        assert written.interrupted and written.frames == 4
    else:
        with pytest.raises(MediaError, match="broke"):
            run(frames, clip(tmp_path), keeper)
    assert colours(tmp_path / "a.gif") == list(GREYS)[:4] and state.exists()
    assert not run(lambda *_: map(frame, GREYS), clip(tmp_path), keeper).interrupted
    assert colours(tmp_path / "a.gif") == list(GREYS) and not state.exists()
