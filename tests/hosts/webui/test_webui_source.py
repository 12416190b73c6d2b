"""A source video in img2img of a real WebUI: its frames, mask, sound and transparency in the clip."""
from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from clip_reading import stills
from PIL import Image, ImageDraw
from test_webui_generation import EULER, FRAMES

CLIP = {**FRAMES, "video_length": 0, "batch_size": 4, "overlap": 1}
del CLIP["fps"]  # the clip takes the source's
FIELDS = {**EULER, "prompt": "a red square at rest", "steps": 4, "denoising_strength": 0.3}
COUNT = 6


@pytest.fixture
def source(host):
    """A folder with a picture for each frame: a square that moves to the right."""
    folder = host.data / "walk"
    folder.mkdir(exist_ok=True)
    for i in range(COUNT):
        picture = Image.new("RGB", (64, 64), (30, 30, 30))
        ImageDraw.Draw(picture).rectangle((8 * i, 16, 8 * i + 20, 48), fill=(230, 40, 40))
        picture.save(folder / f"{i}.png")
    return folder


def shown(folder) -> np.ndarray:
    pictures = [Image.open(path).convert("RGB") for path in sorted(folder.glob("*.png"))]
    return np.stack([np.asarray(picture) for picture in pictures]).astype(float)


def test_each_frame_starts_from_a_frame_of_the_video(host, source):
    """With a frame lock, no frame leaves its own."""
    settings = {**CLIP, "video_path": str(source), "frame_lock": 1}
    made, frames = stills(host.img2img([], settings, **FIELDS)).astype(float), shown(source)
    assert len(made) == COUNT
    for i, frame in enumerate(made):
        assert np.abs(frames - frame).mean((1, 2, 3)).argmin() == i


def test_a_mask_keeps_the_rest_of_the_video(host, source):
    mask = host.data / "mask"
    mask.mkdir(exist_ok=True)
    picture = Image.new("L", (64, 64))
    ImageDraw.Draw(picture).rectangle((0, 0, 31, 63), fill=255)
    picture.save(mask / "0.png")
    settings = {**CLIP, "video_path": str(source), "mask_path": str(mask)}
    made, frames = stills(host.img2img([], settings, **FIELDS)).astype(float), shown(source)
    assert np.abs(made - frames)[:, :, 44:].max() == 0, "the video's own pixels"
    assert np.abs(made - frames)[:, :, :24].mean() > 2


def test_a_video_file_gives_rate_frames_and_sound(host, source):
    av = pytest.importorskip("av")
    if not host.has_pyav:
        pytest.skip("needs PyAV in the WebUI's Python; see webui_host.py")
    path = host.data / "walk.mp4"
    with av.open(str(path), "w") as container:
        stream, sound = container.add_stream("libx264", rate=5), container.add_stream("aac", rate=8000)
        stream.width = stream.height = 64
        stream.pix_fmt, sound.layout = "yuv420p", "mono"
        for frame in shown(source):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame.astype(np.uint8), format="rgb24")))
        container.mux(stream.encode())
        tone = (np.sin(np.arange(9600) / 3) * 0.4).astype(np.float32)[None]
        frame = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 8000, 0
        container.mux(sound.encode(frame))
        container.mux(sound.encode())
    settings = {**CLIP, "video_path": str(path), "format": ["MP4"], "returns": "clip"}
    [data] = map(base64.b64decode, host.img2img([], settings, **FIELDS).expect().images)
    with av.open(io.BytesIO(data)) as made:
        assert made.streams.video[0].average_rate == 5 and sum(1 for _ in made.decode(video=0)) == COUNT
    with av.open(io.BytesIO(data)) as made:
        assert sum(frame.samples for frame in made.decode(audio=0)) > 4000


@pytest.mark.parametrize("given", ["start pictures", "a folder"])
def test_transparency_is_that_of_the_source(host, given):
    folder, starts = host.data / "clear", []
    folder.mkdir(exist_ok=True)
    for i in range(COUNT):
        path = folder / f"{i}.png"
        Image.new("RGBA", (64, 64), (200, 40, 40, 40 * i)).save(path)
        starts.append(base64.b64encode(path.read_bytes()).decode())
    settings = {**CLIP, "format": ["APNG"], "returns": "clip"}
    if given == "a folder":
        settings["video_path"] = str(folder)
        starts = []
    [data] = map(base64.b64decode, host.img2img(starts, settings, **FIELDS).expect().images)
    with Image.open(io.BytesIO(data)) as made:
        alpha = [made.seek(i) or made.convert("RGBA").getchannel("A").getextrema() for i in range(made.n_frames)]
    assert alpha == [(40 * i, 40 * i) for i in range(COUNT)]
