"""A source video in the stand-in for the WebUI: its frames in img2img, its rate and sound, its mask, and its paths.

The oracle is the host alone: with a motion module without effect, each frame of a clip equals the host's img2img of
that frame of the video. PyAV reads the video here.
"""
from __future__ import annotations

import base64
import io
import os
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from slow_cases import slow
from test_standin_adapter import REQUEST, animate, frames_of, host, library, plain, snapshot  # noqa: F401

av = pytest.importorskip("av")

FRAMES, FPS = 6, 10
STILL = {"model": "still.safetensors", "video_length": 0, "returns": "frames", "batch_size": 4, "overlap": 1}
LINEAR = {"override_settings": {"sd_model_checkpoint": "linear"}}


def scene(number: int) -> np.ndarray:
    frame = np.full((64, 64, 3), (40 * number, 200 - 30 * number, 90), np.uint8)
    frame[:, 8 * number:8 * number + 8] = 255
    return frame


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    """6 frames at 10 frames per second, lossless, with a sound."""
    path = tmp_path_factory.mktemp("video") / "walk.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=FPS)
        stream.width = stream.height = 64
        stream.pix_fmt = "bgr0"
        sound = container.add_stream("pcm_s16le", rate=8000)
        sound.layout = "mono"
        for number in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(scene(number), format="rgb24")
            container.mux(stream.encode(frame))
        tone = (np.sin(np.arange(8000 * FRAMES // FPS) / 4) * 9000).astype(np.int16)[None]
        samples = av.AudioFrame.from_ndarray(tone, format="s16", layout="mono")
        samples.sample_rate, samples.pts, samples.time_base = 8000, 0, Fraction(1, 8000)
        container.mux(sound.encode(samples))
        container.mux(stream.encode())
        container.mux(sound.encode())
    return path


@pytest.fixture
def near(host, video):
    """The video in a folder that requests may name."""
    path = host.data / "near" / video.name
    path.parent.mkdir()
    path.write_bytes(video.read_bytes())
    return path


def encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def alone(host, number: int, seed: int, **fields) -> np.ndarray:
    picture = Image.fromarray(scene(number))
    return frames_of(host.request("img2img", {**REQUEST, **LINEAR, **fields, "init_images": [picture],
                                              "seed": REQUEST["seed"] + seed}))[0]


def close(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and np.abs(a.astype(int) - b).max() <= 1


@pytest.mark.parametrize("how", ["base64", slow("data URI"), "path"])
def test_each_frame_starts_from_a_frame_of_the_video(host, near, how):
    given = {"base64": {"video_source": encoded(near)}, "path": {"video_path": str(near)},
             "data URI": {"video_source": f"data:video/x-matroska;base64,{encoded(near)}"}}[how]
    answer = animate(host, {**STILL, **given}, "img2img", init_images=[], denoising_strength=0.5, **LINEAR)
    frames = frames_of(answer)
    assert len(frames) == FRAMES
    for number in (0, 2, 5):
        assert close(frames[number], alone(host, number, number, denoising_strength=0.5)), number
    text = answer.info["infotexts"][0]
    assert "fps: 10" in text and "frames: 6" in text and (str(host.data) in text) == (how == "path")


def test_the_frames_are_those_that_the_preflight_tells(host, near):
    from animatediff.hosts.a1111 import request
    from animatediff.hosts.a1111.run_facts import of_run

    asked = {"video_path": str(near), "video_fps": 4}
    told = of_run(request.read([{"enable": True, **STILL, **asked}]), {"steps": 3}, from_picture=True)
    assert "Source video: 6 frames of 0.6 s → 2 at 4 fps" in told.lines and not told.problems
    frames = frames_of(animate(host, {**STILL, **asked}, "img2img", init_images=[], denoising_strength=0.5, **LINEAR))
    assert len(frames) == told.frames == 2
    for place, number in enumerate((1, 3)):  # shown at 0.125 s and 0.375 s
        assert close(frames[place], alone(host, number, place, denoising_strength=0.5)), number


def test_the_files_have_the_sources_rate_and_sound(host, near):
    animate(host, {**STILL, "video_path": str(near), "format": ["MP4"], "returns": "clip"}, "img2img", init_images=[])
    [path] = (host.data / "outputs").rglob("*.mp4")
    with av.open(str(path)) as found:
        assert found.streams.video[0].average_rate == FPS
        assert sum(1 for _ in found.decode(video=0)) == FRAMES
    with av.open(str(path)) as found:
        assert sum(frame.samples for frame in found.decode(audio=0)) > 0


def test_strength_over_the_frames(host, near):
    """A frame of strength 0 equals the picture after encoding and decoding. The infotext has the host's own number."""
    asked = {**STILL, "video_path": str(near), "denoising_strength_frames": "0, 0.5, 0.5, 0.5, 0.5, 0.5"}
    answer = animate(host, asked, "img2img", init_images=[], denoising_strength=1.0, steps=4, **LINEAR)
    frames = frames_of(answer)
    model, pixels = host.shared.sd_model, torch.from_numpy(scene(0)).permute(2, 0, 1)[None].float() / 127.5 - 1
    back = model.decode_first_stage(model.get_first_stage_encoding(model.encode_first_stage(pixels)))
    back = ((back[0] + 1) / 2).clamp(0, 1).permute(1, 2, 0).mul(255).byte().numpy()
    assert np.abs(frames[0].astype(int) - back).max() <= 1
    assert close(frames[3], alone(host, 3, 3, denoising_strength=0.5, steps=4))
    assert "Denoising strength: 1.0" in answer.info["infotexts"][0]


@pytest.mark.parametrize("tab", ["img2img", "txt2img"])
def test_outside_of_the_mask_the_source_stays_bit_for_bit(host, near, tab):
    mask = np.zeros((64, 64), np.uint8)
    mask[:, 40:] = 255
    Image.fromarray(mask).save(host.data / "near" / "mask.png")
    asked = {**STILL, "video_path": str(near), "mask_path": str(host.data / "near" / "mask.png")}
    fields = {"init_images": [], "denoising_strength": 0.9} if tab == "img2img" else {}
    frames = frames_of(animate(host, asked, tab, **fields, **LINEAR))
    for number, frame in enumerate(frames):
        assert (frame[:, :40] == scene(number)[:, :40]).all()
        assert np.abs(frame[:, 40:].astype(int) - scene(number)[:, 40:]).mean() > 2


def test_a_mask_in_the_request_is_kept_and_named(host, near):
    """The infotext's name makes the same clip."""
    mask = np.zeros((64, 64), np.uint8)
    mask[:, 40:] = 255
    file = io.BytesIO()
    Image.fromarray(mask).save(file, "PNG")
    sent = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    asked, fields = {**STILL, "video_path": str(near), "mask_path": sent}, {"denoising_strength": 0.9, **LINEAR}
    first = animate(host, asked, "img2img", init_images=[], **fields)
    frames = frames_of(first)
    assert all((frames[number][:, :40] == scene(number)[:, :40]).all() for number in range(FRAMES))
    [kept] = (host.data / "outputs" / "AnimateDiff-sources").iterdir()
    assert kept.read_bytes() == file.getvalue() and f"mask_path: {kept.name}" in first.info["infotexts"][0]
    again = animate(host, {**asked, "mask_path": kept.name}, "img2img", init_images=[], **fields)
    assert (frames_of(again) == frames).all()


@pytest.mark.parametrize("sent", ["data:image/png;base64,AAAA", base64.b64encode(bytes(6000)).decode(), "x" * 5000])
def test_a_mask_that_is_none_is_refused(host, near, sent):
    answer = animate(host, {**STILL, "video_path": str(near), "mask_path": sent}, "img2img", init_images=[])
    assert answer.status == 422 and answer.detail.startswith("mask_path: is not a"), answer
    assert len(answer.detail) < 300


def test_kept_files_that_were_not_used_for_long_make_room(host, near, monkeypatch):
    from animatediff.hosts.a1111.kept import KeptFiles

    kept = KeptFiles("AnimateDiff-sources", "source video")
    data = near.read_bytes()
    names = [kept.keep(data + bytes([number])) for number in range(4)]
    host.opts.data["animatediff_kept_gb"] = 2 * len(data) / 2**30
    assert kept.keep(data + b"4") and len(list(kept.folder.iterdir())) == 5, "used within a day"
    for age, name in enumerate(names):
        os.utime(kept.folder / name, (0, 1000 - age))
    assert kept.find(names[3]) and kept.keep(data + bytes([2])) == names[2]  # now used last
    (kept.folder / "notes.txt").write_text("of the user")
    kept.keep(data + b"5")
    left = {path.name for path in kept.folder.iterdir()}
    assert {*names[2:], "notes.txt"} < left and not left & set(names[:2]) and len(left) == 5


def test_an_uploaded_source_sets_the_rate_to_its_own():
    from animatediff.hosts.shared.upload import SourceUpload

    gr = SimpleNamespace(update=lambda **change: change, Error=ValueError)
    control = SourceUpload(gr, SimpleNamespace(), lambda path: "kept.mp4" if path else "")
    assert control.values("walk.mp4") == ["kept.mp4", {"value": 0}] and control.values(None) == ["", {}]


def test_start_pictures_have_a_mask_as_well(host):
    Image.new("L", (64, 64), 0).save(host.data / "black.png")
    pictures = [Image.fromarray(scene(number)) for number in range(3)]
    frames = frames_of(animate(host, {**STILL, "mask_path": "black.png"}, "img2img", init_images=pictures))
    assert (frames == np.stack([scene(number) for number in range(3)])).all()


def test_a_source_that_nothing_takes_is_told(host, near):
    answer = animate(host, {**STILL, "video_path": str(near)})
    assert len(frames_of(answer)) == FRAMES
    assert any("in txt2img, it is for ControlNet units" in note
               for note in answer.info["extra_generation_params"]["AnimateDiff notes"])


@pytest.mark.parametrize("name", ["video_path", "video_source", "mask_path"])
def test_files_elsewhere_are_refused_without_a_look(host, near, video, name):
    said = set()
    for path in (video, video.with_name("nothing.mkv")):
        more = {} if name == "video_path" else {"video_path": str(near)} if name == "mask_path" else {}
        answer = animate(host, {**STILL, **more, name: str(path)}, "img2img", init_images=[])
        assert answer.status == 422, answer
        said.add(str(answer.detail).replace(path.name, "FILE"))
    assert len(said) == 1 and "does not read files there" in said.pop()


def test_more_frames_than_the_video_has_are_refused(host, near):
    answer = animate(host, {**STILL, "video_path": str(near), "video_length": 9}, "img2img", init_images=[])
    assert answer.status == 422 and "9 frames" in answer.detail and "6 pictures" in answer.detail


def test_everything_is_undone(host, near):
    before, state = plain(host), snapshot(host)
    animate(host, {**STILL, "video_path": str(near)}, "img2img", init_images=[])
    assert plain(host) == before and snapshot(host) == state


@pytest.mark.slow
def test_an_upload_of_the_page_is_kept_once_and_what_is_none_is_refused(host, video, tmp_path, monkeypatch):
    from animatediff.errors import MediaError
    from animatediff.hosts.a1111.source import KEPT

    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    upload = tmp_path / "uploads" / "1" / "walk.mkv"
    upload.parent.mkdir(parents=True)
    upload.write_bytes(video.read_bytes())
    name = KEPT.uploaded(str(upload))
    assert KEPT.uploaded(str(upload)) == name and KEPT.find(name).read_bytes() == video.read_bytes()
    assert KEPT.uploaded(None) == ""
    with pytest.raises(MediaError, match="no upload"):
        KEPT.uploaded(str(video))
    upload.write_bytes(b"text")
    with pytest.raises(MediaError, match="no file that can be read"):
        KEPT.uploaded(str(upload))
    frames = frames_of(animate(host, {**STILL, "video_source": name}, "img2img", init_images=[]))
    assert len(frames) == FRAMES


@pytest.mark.slow
def test_the_infotexts_source_makes_the_clip_again(host, near):
    from animatediff.hosts.shared import infotext

    asked = {**STILL, "video_source": encoded(near), "video_every": 2}
    first = animate(host, asked, "img2img", init_images=[])
    text = first.info["infotexts"][0]
    line = text[text.index('AnimateDiff: "') + len('AnimateDiff: "'):]
    values = infotext.loads(line[:line.index('"')].replace("\\", ""))
    values |= {"model": values.pop("motion_module"), "video_length": values.pop("frames"),
               "format": values.pop("formats")}
    again = animate(host, {**values, "returns": "frames"}, "img2img", init_images=[])
    assert len(first.images) == 3 and (frames_of(first) == frames_of(again)).all()
