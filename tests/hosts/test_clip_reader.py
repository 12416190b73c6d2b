"""Pillow opens clips while the reader is registered, and only then."""
from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError

from animatediff.hosts.shared import clip_reader
from animatediff.media.write import ClipWriter


@pytest.fixture
def reader():
    clip_reader.add()
    yield
    clip_reader.remove()


@pytest.fixture(params=["mp4", "webm"])
def clip(tmp_path, request):
    path = tmp_path / f"clip.{request.param}"
    with ClipWriter(path, [request.param], fps=8, metadata="a red circle\nSteps: 20, Seed: 5") as writer:
        for level in (200, 100, 20):
            writer.add(np.full((48, 64, 3), level, np.uint8))
    return path


def test_the_first_frame_with_the_infotext(clip, reader):
    for source in (clip, str(clip), io.BytesIO(clip.read_bytes())):
        picture = Image.open(source)
        assert picture.filename == ("" if isinstance(source, io.BytesIO) else str(clip))
        assert picture.size == (64, 48) and picture.info["parameters"] == "a red circle\nSteps: 20, Seed: 5"
        assert abs(int(np.asarray(picture.convert("RGB")).mean()) - 200) <= 4


def test_registered_once_and_gone_afterwards(clip):
    before = list(Image.ID), dict(Image.OPEN)
    clip_reader.add()
    clip_reader.add()
    assert Image.ID.count(clip_reader.FORMAT) == 1
    clip_reader.remove()
    assert (list(Image.ID), dict(Image.OPEN)) == before
    with pytest.raises(UnidentifiedImageError):
        Image.open(clip)


def test_a_damaged_video_is_no_picture(clip, reader):
    clip.write_bytes(clip.read_bytes()[:40])
    with pytest.raises(UnidentifiedImageError):
        Image.open(clip)


def test_pictures_are_left_to_their_readers(reader):
    assert not clip_reader.is_video(b"\0\0\0\x1cftypavif\0\0\0\0")
    assert not clip_reader.is_video(b"\0\0\0\x1cftypheic\0\0\0\0")
    assert not clip_reader.is_video(b"GIF89a\0\0\0\0\0\0\0\0\0\0")
