"""Users' pictures, written by Pillow and PyAV and compared with the originals."""
from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image
from video_helpers import NEEDS_VIDEO, moving, psnr

from animatediff.errors import MediaError
from animatediff.media import read
from animatediff.media.write import ClipWriter


def arrays(path):
    return [np.asarray(picture) for picture in read.pictures(path)]


def test_a_folder_in_the_order_of_its_numbers(tmp_path):
    for number in (10, 9, 100, 1):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / f"frame-{number}.png")
    (tmp_path / "thumbs.db").write_bytes(b"x")
    assert [array[0, 0, 0] for array in arrays(tmp_path)] == [1, 9, 10, 100]


@pytest.mark.parametrize("name, exact", [("clip.png", True), ("clip.webp", True), ("clip.gif", False)])
def test_animated_pictures(tmp_path, name, exact):
    frames = moving(5, shades=False)
    first, *rest = map(Image.fromarray, frames)
    lossless = {"lossless": True} if name.endswith("webp") else {}
    first.save(tmp_path / name, save_all=True, append_images=rest, **lossless)
    found = arrays(tmp_path / name)
    assert len(found) == 5
    for a, b in zip(found, frames):
        assert (a == b).all() if exact else psnr(a, b) > 30


@NEEDS_VIDEO
def test_a_video_has_every_frame(tmp_path):
    frames = moving(23)
    with ClipWriter(str(tmp_path / "clip.mp4"), ["MP4"], 24) as clip:
        for frame in frames:
            clip.add(frame)
        clip.close()
    found = arrays(tmp_path / "clip.mp4")
    assert len(found) == 23 and min(psnr(a, b) for a, b in zip(found, frames)) > 28


def test_a_photo_is_turned_as_its_camera_says(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(4, 16)).save(tmp_path / "x.png", exif=exif)
    assert arrays(tmp_path / "x.png")[0].shape == (16, 4, 3)


def test_transparent_is_white(tmp_path):
    Image.new("RGBA", (4, 4), (200, 0, 0, 0)).save(tmp_path / "x.png")
    Image.new("RGBA", (4, 4), (200, 0, 0, 255)).save(tmp_path / "y.png")
    assert [array[0, 0].tolist() for array in arrays(tmp_path)] == [[255, 255, 255], [200, 0, 0]]


def test_cut_and_stretched():
    wide = Image.fromarray(np.repeat(np.arange(60, dtype=np.uint8)[None], 20, 0))
    assert np.asarray(read.fitted(wide, 20, 20)).mean() == pytest.approx(29.5, abs=0.6)
    cut, stretched = read.fitted(wide, 20, 20), read.fitted(wide, 20, 20, "stretch")
    assert np.ptp(np.asarray(cut)) < 22 < np.ptp(np.asarray(stretched))
    assert read.fitted(wide, 60, 20) is wide


@pytest.mark.parametrize("ahead", ["", "data:image/png;base64,", "data:;base64,"])
def test_base64(ahead):
    picture = Image.fromarray(moving(1)[0])
    out = io.BytesIO()
    picture.save(out, "PNG")
    text = base64.b64encode(out.getvalue()).decode()
    for written in (text, "\n".join(text[i:i + 76] for i in range(0, len(text), 76))):
        found = read.decoded(ahead + written)
        assert found.mode == "RGBA" and (np.asarray(found.convert("RGB")) == np.asarray(picture)).all()


@pytest.mark.parametrize(("text", "said"), [("/tmp/x.png", "base64"), ("häh", "base64"), ("http://x/y.png", "base64"),
                                            ("aGVsbG8=", "but not a picture"),
                                            ("data:image/png;base64,", "but not a picture")])
def test_what_is_no_picture(text, said):
    with pytest.raises(ValueError, match=said):
        read.decoded(text)


def test_files_that_are_none(tmp_path):
    (tmp_path / "x.txt").write_text("hello")
    (tmp_path / "empty").mkdir()
    picture = io.BytesIO()
    Image.fromarray(moving(1)[0]).save(picture, "PNG")
    (tmp_path / "cut.png").write_bytes(picture.getvalue()[:300])
    wrong = {"x.txt": "neither", "empty": "no pictures", "gone": "cannot be read", "cut.png": "cannot be read"}
    for name, said in wrong.items():
        with pytest.raises(MediaError, match=said) as caught:
            arrays(tmp_path / name)
        assert name in caught.value.where and caught.value.remedy


def test_nothing_but_pictures_and_videos_is_ever_opened(tmp_path):
    """No PostScript program or list of other files is opened, whatever the suffix. 16-bit pictures keep their range."""
    other = tmp_path / "other.png"
    Image.new("RGB", (4, 4)).save(other)
    (tmp_path / "x.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n")
    (tmp_path / "y.mp4").write_text(f"ffconcat version 1.0\nfile {other}\n")
    for name in ("x.png", "y.mp4"):
        with pytest.raises(MediaError, match="neither a picture nor a video"):
            arrays(tmp_path / name)
        with pytest.raises(ValueError, match="but not a picture"):
            read.decoded(base64.b64encode((tmp_path / name).read_bytes()).decode())
    Image.fromarray(np.full((4, 4), 40000, np.uint16)).save(tmp_path / "deep.png")
    assert arrays(tmp_path / "deep.png")[0][0, 0].tolist() == [156] * 3
