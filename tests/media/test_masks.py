"""Masks from files: pictures of many kinds, and the frame of an animation that each frame of the clip gets."""
from __future__ import annotations

import base64
import io
import os
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as budget
from hypothesis import strategies as st
from PIL import Image

from animatediff.errors import MediaError
from animatediff.media import masks, opening
from animatediff.media.read import embedded

RAMP = np.linspace(0, 255, 48).round().astype(np.uint8)[None].repeat(32, 0)


def saved(path, image: Image.Image, **options):
    image.save(path, **options)
    return path


@pytest.mark.parametrize("name, tolerance", [("a.png", 0), ("a.bmp", 0), ("a.tif", 0), ("a.gif", 0),
                                             ("a.webp", 3), ("a.jpg", 3)])
def test_pictures(tmp_path, name, tolerance):
    path = saved(tmp_path / name, Image.fromarray(RAMP), quality=95)
    pictures, of_frame = masks.read(path, 5)
    assert of_frame == (0,) * 5 and len(pictures) == 1 and pictures[0].dtype == np.uint8
    assert np.abs(pictures[0].astype(int) - RAMP).max() <= tolerance
    again, _ = masks.read(embedded(base64.b64encode(path.read_bytes()).decode(), "", ""), 5)
    assert np.array_equal(again[0], pictures[0]) and name.endswith(opening.ending(path.read_bytes()))


def test_colours_depths_and_transparency(tmp_path):
    deep = Image.fromarray(RAMP.astype(np.uint16) * 257)
    assert np.array_equal(masks.read(saved(tmp_path / "deep.png", deep), 1)[0][0], RAMP)
    clear = Image.new("RGBA", (4, 4), (255, 255, 255, 0))
    clear.putpixel((1, 1), (255, 255, 255, 255))
    [found], _ = masks.read(saved(tmp_path / "clear.png", clear), 1)
    assert found[1, 1] == 255 and found.sum() == 255
    red = Image.new("RGB", (4, 4), (255, 0, 0))
    assert masks.read(saved(tmp_path / "red.png", red), 1)[0][0][0, 0] == 76  # ITU-R 601's luma
    bits = Image.new("1", (4, 4), 1)
    assert masks.read(saved(tmp_path / "bits.png", bits), 1)[0][0].min() == 255
    large = Image.fromarray(np.zeros((2000, 1000), np.uint8))
    assert masks.read(saved(tmp_path / "large.png", large), 1)[0][0].shape == (512, 256)


def shades(path, frames):
    pictures, of_frame = masks.read(path, frames)
    return [int(pictures[i].mean().round()) for i in of_frame]


def frames_of(values):
    return [Image.new("L", (16, 16), value) for value in values]


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png"])
def test_as_many_masks_as_frames_go_one_to_one(tmp_path, name):
    values = [0, 40, 80, 120, 160, 200, 240]
    first, *rest = frames_of(values)
    path = saved(tmp_path / name, first, save_all=True, append_images=rest, duration=120,
                 **({"lossless": True} if "webp" in name else {}))
    assert np.allclose(shades(path, 7), values, atol=2)
    assert np.allclose(shades(path, 14), np.repeat(values, 2), atol=2)
    assert np.allclose(shades(path, 1), [120], atol=2)
    assert len(masks.read(path, 2)[0]) == 2  # only the needed masks are kept


def test_times_are_those_of_the_animation(tmp_path):
    """A GIF stores equal frames once, with a longer delay."""
    first, *rest = frames_of([0] * 8 + [200] + [255] * 3)
    path = saved(tmp_path / "a.gif", first, save_all=True, append_images=rest, duration=100)
    assert Image.open(path).n_frames == 3
    assert np.allclose(shades(path, 12), [0] * 8 + [200] + [255] * 3, atol=1)


@pytest.mark.parametrize("name, codec", [("a.mp4", "libx264"), ("a.mov", "libx264"),
                                         ("a.webm", "libvpx-vp9"), ("a.mkv", "libx264"), ("a.avi", "mpeg4")])
def test_videos(tmp_path, name, codec):
    av = pytest.importorskip("av")
    values = [30, 90, 150, 210]
    with av.open(str(tmp_path / name), "w") as out:
        stream = out.add_stream(codec, rate=10)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for value in values:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((32, 32, 3), value, np.uint8), "rgb24")))
        out.mux(stream.encode(None))
    assert np.allclose(shades(tmp_path / name, 4), values, atol=8)
    assert np.allclose(shades(tmp_path / name, 8), np.repeat(values, 2), atol=8)


def refusal(source, frames=4) -> str:
    with pytest.raises(MediaError) as caught:
        masks.read(source, frames)
    assert caught.value.exit_code == 4 and caught.value.http_status == 422 \
        and caught.value.where.startswith("motion mask")
    return str(caught.value)


def test_what_cannot_be_read_is_said_and_not_quoted(tmp_path):
    deep = tmp_path / ("x" * 100)
    assert "there is no such file" in refusal(deep / "none.png") and "none.png" in refusal(deep / "none.png")
    assert "is a folder" in refusal(tmp_path)
    secret = tmp_path / "secret.png"
    secret.write_text("password = hunter2")
    assert "neither a picture nor a video" in refusal(secret) and "hunter2" not in refusal(secret)
    secret.write_bytes(b"\x89PNG\r\n\x1a\n" + b"hunter2" * 9)
    assert "damaged" in refusal(secret) and "hunter2" not in refusal(secret)
    secret.write_bytes(b"")
    assert "neither" in refusal(secret)
    whole = saved(tmp_path / "whole.png", Image.fromarray(RAMP)).read_bytes()
    secret.write_bytes(whole[: len(whole) // 2])
    assert "damaged" in refusal(secret)
    playlist = tmp_path / "list.m3u8"
    playlist.write_text(f"#EXTM3U\n#EXTINF:1,\n{tmp_path}/whole.png\n")
    assert "neither" in refusal(playlist)
    assert len(refusal("x" * 10_000)) < 400


def test_a_video_of_no_frames(tmp_path):
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "a.mp4"), "w") as out:
        stream = out.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 44100
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    assert "holds no frames" in refusal(tmp_path / "a.mp4")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    begin = time.monotonic()
    assert "no such file" in refusal(tmp_path / "pipe.png") and time.monotonic() - begin < 5


def test_only_pictures_and_videos_are_decoded_from_text():
    file = io.BytesIO()
    Image.fromarray(RAMP).save(file, "PNG")
    text = base64.b64encode(file.getvalue()).decode()
    for written in (text, f"data:image/png;base64,{text}", "\n".join([text[:40], text[40:]])):
        assert embedded(written, "mask", "Send") == file.getvalue()
    for other in ("masks/oval.png", "aGVsbG8=", "", "~/mask", "abcd"):
        assert embedded(other, "mask", "Send") is None
    for other in ("data:text/html;base64,PGI+", "data:image/png;base64,!", "A" * 5000):
        with pytest.raises(MediaError, match="^mask: is not a picture or video in base64. Send$"):
            embedded(other, "mask", "Send")


@budget(max_examples=60, deadline=None)
@given(st.integers(0, 4000), st.binary(min_size=1, max_size=8),
       st.sampled_from(["GIF", "PNG", "WEBP", "TIFF", "BMP", "JPEG"]))
def test_no_damage_is_more_than_a_refusal(place, junk, kind):
    file = io.BytesIO()
    first, *rest = frames_of([0, 100, 200])
    first.save(file, kind,
               **({"save_all": True, "append_images": rest} if kind in ("GIF", "PNG", "WEBP", "TIFF") else {}))
    data = bytearray(file.getvalue())
    data[place % len(data):place % len(data) + len(junk)] = junk
    try:
        pictures, of_frame = masks.read(bytes(data), 5)
        assert len(of_frame) == 5 and max(of_frame) < len(pictures)
    except MediaError:
        pass


def test_the_users_name_is_not_written_into_clips(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert masks.without_home(str(tmp_path / "masks" / "oval.png")) == "~/masks/oval.png"
    assert masks.without_home("masks/oval.png") == "masks/oval.png"
