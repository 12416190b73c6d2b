"""The transparency of img2img's start pictures in the files of the clip, decoded by Pillow."""
from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from test_standin_adapter import animate


def start(i, size=64):
    """Half of it is clear; which half changes."""
    image = np.full((size, size, 4), (200, 90, 40, 255), np.uint8)
    image[:, 32 * i : 32 * i + 32, 3] = 0
    return Image.fromarray(image)


@pytest.mark.parametrize("count", [1, 2])
def test_files_have_it_and_the_gallery_has_the_frames(host, count):
    starts = [start(i) for i in range(count)]
    answer = animate(host, {"format": ["APNG", "GIF"], "video_length": 2 if count == 1 else 0, "returns": "frames",
                            "batch_size": 2}, "img2img", init_images=starts, denoising_strength=0.3)
    assert answer.status == 200, answer
    frames = [Image.open(io.BytesIO(raw)) for raw in answer.images]
    assert [frame.mode for frame in frames] == ["RGB", "RGB"]
    [apng] = (host.data / "outputs").rglob("*.apng")
    [gif] = (host.data / "outputs").rglob("*.gif")
    with Image.open(apng) as clip:
        for i in range(2):
            clip.seek(i)
            pixels = np.asarray(clip.convert("RGBA"))
            assert np.array_equal(pixels[..., 3], np.asarray(starts[i % count])[..., 3])
            assert np.array_equal(pixels[..., :3], np.asarray(frames[i]))
    with Image.open(gif) as clip:
        shown = np.asarray(clip.convert("RGB")).astype(int)
    assert np.abs(shown - np.asarray(frames[0])).mean() < 8
    assert "the same transparency in APNG" in str(answer.info) and "GIF cannot contain transparency" in str(answer.info)
