"""Interpolation by the settings, in jobs of both kinds, and the notes on it."""
from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from animatediff.clip import interpolation, legacy
from animatediff.clip.job import Clip, Job
from animatediff.errors import MediaError, ModelError, SettingsError
from animatediff.media import metadata
from animatediff.media.interpolate import Stream, film, rife
from animatediff.media.write import Target
from animatediff.settings import Settings, parse

BLEND = {"interp": "blend", "interp_x": 2}


def none(name, method):
    return None


def frames(count=4):
    pattern = np.random.default_rng(0).integers(0, 60, (16, 16, 3))
    return [(pattern + 100 + 10 * i).astype(np.uint8) for i in range(count)]


def written(folder, settings, pictures, playback=None, **more):
    clip = Clip(len(pictures), ("GIF", "PNG"), settings.fps, lambda known: "{}",
                lambda taken: Target(f"{folder}/", "a"), playback=playback,
                interpolation=interpolation.of(settings, len(pictures), none), **more)
    job = Job()
    job.begin(clip)
    for picture in pictures:
        job.add(picture)
    return job.finish()


def stills(folder):
    return [np.asarray(Image.open(path)) for path in sorted((folder / "a").glob("*.png"))]


def test_both_kinds_of_jobs_write_the_same(tmp_path):
    settings = parse(BLEND | {"closed_loop": "ping-pong", "frames": 4})
    streamed = written(tmp_path / "s", settings, [*frames(), *frames()[-2:0:-1]])
    held = written(tmp_path / "h", settings, [Image.fromarray(frame) for frame in frames()],
                   playback=lambda count: [0, 1, 2, 3, 2, 1], hold_all=True)
    a, b = stills(tmp_path / "s"), stills(tmp_path / "h")
    assert streamed.frames == held.frames == len(a) == len(held.held) == 12 and np.array_equal(a, b)
    assert all(np.array_equal(frame, np.asarray(picture)) for frame, picture in zip(b, held.held))
    assert np.array_equal(a[::2], [*frames(), *frames()[-2:0:-1]]) and np.array_equal(a[1], a[-1])
    with Image.open(tmp_path / "s" / "a.gif") as gif:
        assert gif.n_frames == 12 and sum(gif.seek(i) or gif.info["duration"] for i in range(12)) == 750
    assert streamed.loop == held.loop  # both scores are of the clip's own frames


def test_what_is_held_are_the_clips_own_frames_where_no_others_are_asked_for(tmp_path):
    own = [Image.fromarray(frame) for frame in frames()]
    done = written(tmp_path, parse(BLEND), own, playback=range)
    assert all(a is b for a, b in zip(done.held, own)) and done.frames == 8 and len(done.held) == 4


def test_an_interrupt_leaves_what_has_come(tmp_path):
    settings = parse(BLEND | {"closed_loop": "seamless"})
    job = Job()
    job.begin(Clip(4, ("PNG",), 8, lambda known: "{}", lambda taken: Target(f"{tmp_path}/", "a"),
                   interpolation=interpolation.of(settings, 4, none)))
    for frame in frames()[:2]:
        job.add(frame)
    assert job.fail(KeyboardInterrupt()).frames == 3 == len(stills(tmp_path))


@pytest.mark.parametrize(("values", "closed"), [
    ({}, False), ({"closed_loop": "seamless"}, True), ({"closed_loop": "ping-pong"}, True),
    ({"seam_repair": 0.5}, True), ({"closed_loop": "R+P"}, False),
    ({"closed_loop": "R+P", "frames": 32}, True), ({"closed_loop": "A"}, True),
    ({"closed_loop": "seamless", "context_schedule": "batched"}, False)])
def test_which_clips_close(values, closed):
    settings = parse(BLEND | values)
    assert interpolation.of(settings, settings.frame_count(), none).closed is closed


RIFE = {f"module.{key}": value for key, value in rife.IFNet(rife.Layout((8, 8, 8, 8))).state_dict().items()}
FILM = film.FilmNet(film.Layout(2, (2, 2, 2, 2))).state_dict()


@pytest.fixture
def find(tmp_path):
    """Finds model files in tmp_path."""
    return lambda name, method: interpolation.find_in(name, [tmp_path], method)


def test_methods_and_files(tmp_path, monkeypatch, find):
    file = tmp_path / "flownet.pkl"
    torch.save(RIFE, file)
    found = interpolation.of(parse({"interp": "auto"}), 16, find)
    assert (found.method, found.model) == ("RIFE", file) and isinstance(found.load(), rife.Rife)
    assert interpolation.of(parse({"interp": "auto"}), 16, none).method == "flow"
    assert interpolation.of(Settings(), 16, find) is None
    assert interpolation.of(parse({"interp": "flow", "interp_x": 1}), 16, find) is None
    with pytest.raises(ModelError, match="flownet"):
        interpolation.of(parse({"interp": "RIFE"}), 16, none)
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MediaError, match="interpolate.*opencv-python-headless"):
        interpolation.of(parse({"interp": "flow"}), 16, none)
    assert interpolation.of(parse({"interp": "blend"}), 16, none).method == "blend"


def test_film_and_its_file(tmp_path, find):
    torch.save({"a": torch.zeros(4)}, tmp_path / "film grain.ckpt")  # has only the name
    asked = parse({"interp": "film"})
    found = interpolation.of(asked, 16, find)
    assert (found.method, found.model) == ("flow", None)
    [note] = found.stream().notes
    assert note == ("there is no file of FILM's network, so flow is used; put film_net_fp32.pt into a folder of motion "
                    "modules")
    assert interpolation.preflight(asked, 16, 16, find)[:2] == ("16 → 32 frames, 16 fps, flow", (note,))
    torch.save(RIFE, tmp_path / "flownet.pkl")
    assert "so RIFE is used" in interpolation.of(asked, 16, find).notes[0]
    file = tmp_path / "frames" / "film_net_fp16.pt"
    file.parent.mkdir()
    torch.save({key: tensor.half() for key, tensor in FILM.items()}, file)
    found = interpolation.of(asked, 16, find)
    assert (found.method, found.model, found.notes) == ("FILM", file, ()) and isinstance(found.load(), film.Film)
    assert found.description == "FILM (film_net_fp16.pt)" and found.note()["model"] == file.name
    assert interpolation.of(parse({"interp": "auto"}), 16, find).method == "RIFE"
    named = parse({"interp": "auto", "interp_model": file.name})
    assert interpolation.of(named, 16, find).method == "FILM"
    assert len(list(Stream(found.load(), 16).push(frames()[0], 1))) == 1


@pytest.mark.parametrize(("name", "tensors", "said"), [
    ("rife3.pkl", {"block0.conv0.0.0.weight": torch.zeros(4, 7, 3, 3), "block1.conv0.0.0.weight": torch.zeros(4),
                   "block0.conv1.0.weight": torch.zeros(4)}, "is RIFE of another version than 4.0 to 4.26"),
    ("other.pth", {"x": torch.zeros(4)}, "no kind of model that is known, not the network of RIFE"),
    ("film1.pt", {key: value for key, value in FILM.items() if "_predictors.2" not in key},
     "is FILM of another version than the published one"),
    ("film2.pt", FILM | {"fuse.output_conv.bias": torch.zeros(4)}, "another version"),
    ("film3.pt", {key: value.to(torch.int8) for key, value in FILM.items()}, "as int8, which is not a format"),
    ("film4.pt", FILM | {"fuse.output_conv.bias": torch.full((3,), torch.nan)}, "has NaN"),
])
def test_other_files_are_refused(tmp_path, find, name, tensors, said):
    torch.save(tensors, tmp_path / name)
    with pytest.raises(ModelError, match=said) as caught:
        interpolation.of(parse({"interp": "auto", "interp_model": name}), 16, find).load()
    assert str(caught.value).count(name) == 1 and caught.value.remedy


@pytest.mark.parametrize(("method", "content", "said"), [
    ("RIFE", FILM, "a.pt is FILM's network for frame interpolation, not the network of RIFE. Take the file flow"),
    ("FILM", RIFE, "a.pt is RIFE's network for frame interpolation, not the network of FILM. Take the file film"),
])
def test_the_file_of_another_method(tmp_path, find, method, content, said):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(ModelError, match=said):
        interpolation.of(parse({"interp": method, "interp_model": "a.pt"}), 16, find)


def test_too_many_frames_per_second():
    with pytest.raises(SettingsError, match="interp_x"):
        interpolation.of(parse({"interp": "blend", "interp_x": 64, "fps": 30}), 16, none)


def test_what_older_clients_send():
    assert legacy.of_request({"interp": "Off", "interp_x": 10}) == {}
    asked = parse(legacy.of_request({"interp": "FILM", "interp_x": 10, "enable": True}))
    assert (asked.interp, asked.interp_x) == ("FILM", 10)


def test_what_is_told_before_a_run():
    said = interpolation.preflight(parse(BLEND | {"interp_x": 3}), 16, 30, none)
    assert said == ("30 → 90 frames, 24 fps, blend", (), None)
    assert interpolation.preflight(Settings(), 16, 16, none) == ("", (), None)
    assert "flownet" in str(interpolation.preflight(parse({"interp": "RIFE"}), 16, 16, none)[2])


def test_a_cut_is_noted(tmp_path):
    settings = parse(BLEND)
    done = written(tmp_path, settings, [np.zeros((16, 16, 3), np.uint8), np.full((16, 16, 3), 255, np.uint8)])
    assert done.notes == ["cuts found: 1; frames are held over them, not interpolated"]
    assert [int(frame.mean()) for frame in stills(tmp_path)] == [0, 0, 255, 255]
    assert json.loads(metadata.read(done.paths[0])) == {}


def test_a_network_that_fails_leaves_the_frames(tmp_path, monkeypatch):
    """Like a GPU out of memory."""
    class Failing:
        def between(self, a, b, times):
            raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(interpolation.Interpolation, "load", lambda self: Failing())
    done = written(tmp_path, parse(BLEND), [Image.fromarray(frame) for frame in frames()], playback=range)
    assert len(done.held) == 4 and "interpolation ended after 1 frames (CUDA out of memory)" in done.notes
    assert len(stills(tmp_path)) == 1
