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


@pytest.mark.parametrize("count", [1, 2])
def test_a_transparent_source_video_has_it_frame_by_frame(host, count):
    sources = [start(i) for i in range(count)]
    path = host.data / "source.apng"
    sources[0].save(path, "PNG", save_all=True, append_images=sources[1:], duration=125)
    answer = animate(host, {"format": ["APNG", "GIF"], "video_length": 2 if count == 1 else 0, "video_path": str(path)},
                     "img2img", init_images=[Image.new("RGB", (64, 64))], denoising_strength=0.3)
    assert answer.status == 200, answer
    [apng] = (host.data / "outputs").rglob("*.apng")
    with Image.open(apng) as clip:
        for i in range(2):
            clip.seek(i)
            assert np.array_equal(np.asarray(clip.convert("RGBA"))[..., 3], np.asarray(sources[i % count])[..., 3])
    assert "the same transparency in APNG" in str(answer.info)


def test_in_txt2img_the_source_is_for_controlnet_and_the_clip_is_opaque(host):
    path = host.data / "source.apng"
    start(0).save(path, "PNG", save_all=True, append_images=[start(1)], duration=125)
    answer = animate(host, {"format": ["APNG"], "video_length": 0, "video_path": str(path)})
    assert answer.status == 200, answer
    [apng] = (host.data / "outputs").rglob("*.apng")
    with Image.open(apng) as clip:
        assert clip.mode == "RGB"
    assert "transparen" not in str(answer.info)
