"""Users' files: recognised by their bytes, decoded completely, rotated and within budgets; all others are refused."""
from __future__ import annotations

import base64
import io
import os
import struct
import subprocess
import time

import numpy as np
import pytest
from PIL import Image, features
from video_helpers import NEEDS_VIDEO, moving, psnr

from animatediff.errors import MediaError
from animatediff.media import budget, masks, metadata, opening, read
from animatediff.media.write import ClipWriter

BRANDS = {"avif": "AVIF", "avis": "AVIF", "heic": "HEIF", "heix": "HEIF", "mif1": "HEIF", "hevc": "HEIF", "isom": "mp4",
          "mp42": "mp4", "qt  ": "mp4", "3gp5": "mp4", "M4V ": "mp4", "dash": "mp4", "crx ": None, "jp2 ": None,
          "M4A ": None, "\0\0\0\0": None}
CONTAINERS = {"mpg": ("mpeg2video", "mpeg"), "vob": ("mpeg2video", "mpeg"), "ts": ("mpeg2video", "mpegts"),
              "m2ts": ("libx264", "mpegts"), "wmv": ("wmv2", "asf"), "flv": ("flv", "flv"), "ogv": ("libtheora", "ogg"),
              "mov": ("mpeg4", "mp4"), "mkv": ("mpeg4", "matroska"), "avi": ("mpeg4", "avi"), "3gp": ("mpeg4", "mp4")}
SDP = (b"\x1aE\xdf\xa3v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
       b"m=video 45678 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n")


def arrays(path):
    return [np.asarray(picture) for picture in read.pictures(path)]


def refusal(path) -> str:
    with pytest.raises(MediaError) as caught:
        arrays(path)
    assert str(path)[-100:] in caught.value.where and caught.value.remedy
    return str(caught.value)


@pytest.mark.parametrize("brand", BRANDS, ids=repr)
def test_pictures_and_videos_of_one_container_are_told_by_their_brands(brand):
    found = opening.kind(b"\0\0\0\x14ftyp" + brand.encode() + bytes(400))
    assert (found and (found.picture or found.container)) == BRANDS[brand]
    among = opening.kind(b"\0\0\0\x1cftypnone\0\0\0\0none" + brand.encode() + b"none" + bytes(400))
    assert (among and (among.picture or among.container)) == BRANDS[brand]
    behind = opening.kind(b"\0\0\0\x14ftypnone\0\0\0\0none" + brand.encode() + bytes(400))
    assert behind is None, "no brand any more"


@NEEDS_VIDEO
@pytest.mark.parametrize("ending", CONTAINERS)
def test_videos_that_people_have(tmp_path, ffmpeg, ending):
    codec, container = CONTAINERS[ending]
    frames, path = moving(6, 96, 128, shades=False), tmp_path / f"a.{ending}"
    command = [ffmpeg.program, "-v", "error", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "128x96", "-r", "25", "-i",
               "-", "-c:v", codec, "-q:v", "2", path]
    subprocess.run(command, input=np.stack(frames).tobytes(), check=True)
    assert opening.kind(path.read_bytes()).container == container
    found = arrays(path)
    assert len(found) == 6 and min(psnr(a, b) for a, b in zip(found, frames)) > 22
    assert len(masks.read(path, 6)[0]) == 6
    assert opening.ending(path.read_bytes()) in (ending, "mp4", "mpg", "ts", "webm")


@NEEDS_VIDEO
@pytest.mark.parametrize("turn", ["-display_rotation 90", "-display_rotation 180", "-display_rotation -90",
                                  "-display_hflip", "-display_vflip", "-display_rotation 90 -display_hflip",
                                  "-display_rotation -90 -display_hflip"])
def test_videos_stand_as_ffmpeg_turns_them(tmp_path, ffmpeg, turn):
    with ClipWriter(tmp_path / "a.mp4", "MP4") as clip:
        for frame in moving(2, 48, 64):
            clip.add(frame)
    command = [ffmpeg.program, "-v", "error", *turn.split(), "-i", tmp_path / "a.mp4"]
    subprocess.run([*command, "-c", "copy", tmp_path / "b.mp4"], check=True)
    command = [ffmpeg.program, "-v", "error", "-i", tmp_path / "b.mp4", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    raw = subprocess.run(command, check=True, capture_output=True).stdout
    [first, _] = arrays(tmp_path / "b.mp4")
    expected = np.frombuffer(raw, np.uint8).reshape(2, *first.shape)[0]
    assert psnr(first, expected) > 35 and (first.shape == (64, 48, 3)) == ("90" in turn)
    [mask, _], _ = masks.read(tmp_path / "b.mp4", 2)
    assert psnr(mask, np.asarray(Image.fromarray(expected).convert("L"))) > 35


@NEEDS_VIDEO
def test_pixels_that_are_not_square_are_stretched(tmp_path, ffmpeg):
    with ClipWriter(tmp_path / "a.mp4", "MP4") as clip:
        clip.add(moving(1, 48, 64)[0])
    subprocess.run([ffmpeg.program, "-v", "error", "-i", tmp_path / "a.mp4", "-vf", "setsar=4/3", tmp_path / "b.mp4"],
                   check=True)
    assert arrays(tmp_path / "b.mp4")[0].shape == (48, 85, 3)


@pytest.mark.parametrize("name", ["a.heic", "a.avif"])
def test_photos_of_phones_come_whole_and_turned(tmp_path, name):
    heif = pytest.importorskip("pillow_heif") if name == "a.heic" else None
    if heif is None and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    image = Image.new("RGB", (1200, 800), "blue")
    image.paste((255, 0, 0), (0, 0, 600, 400))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was rotated
    (heif.from_pillow(image) if heif else image).save(tmp_path / name, exif=exif.tobytes())
    [found] = arrays(tmp_path / name)
    assert found.shape == (1200, 800, 3)
    right, left = found[100, -100].astype(int), found[100, 100].astype(int)
    assert np.abs(right - (255, 0, 0)).max() < 20 and np.abs(left - (0, 0, 255)).max() < 20
    assert masks.read(tmp_path / name, 1)[0][0].shape == (512, 341)
    assert read.decoded(base64.b64encode((tmp_path / name).read_bytes()).decode()).size == (800, 1200)


def test_photos_without_their_library_are_refused_with_its_name(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x14ftypheic\0\0\0\0mif1" + bytes(400))
    assert "HEIC" in refusal(tmp_path / "a.heic") and "pillow-heif" in refusal(tmp_path / "a.heic")
    monkeypatch.setattr(features, "check", lambda name: False)
    (tmp_path / "a.avif").write_bytes(b"\0\0\0\x14ftypavif\0\0\0\0mif1" + bytes(400))
    assert "AVIF" in refusal(tmp_path / "a.avif") and "Pillow 11.3" in refusal(tmp_path / "a.avif")


def test_a_photo_with_more_behind_it_is_one_picture(tmp_path):
    """Phones store a gain map, or another lens' picture, in the same file (CIPA DC-007)."""
    photo, rest = Image.new("RGB", (64, 48), "red"), Image.new("RGB", (32, 24), "gray")
    photo.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[rest])
    assert Image.open(tmp_path / "a.jpg").n_frames == 2
    [found] = arrays(tmp_path / "a.jpg")
    assert found.shape == (48, 64, 3) and len(masks.read(tmp_path / "a.jpg", 4)[0]) == 1


def test_hidden_files_are_no_pictures(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "f_0.png")
    for name in ("._f_0.png", ".f_1.png", "._.DS_Store"):
        (tmp_path / name).write_bytes(b"\0\5\x16\7" + b"Mac OS X        ")
    assert len(arrays(tmp_path)) == 1
    (tmp_path / "f_0.png").unlink()
    assert "no pictures" in refusal(tmp_path)


def test_a_gif_that_was_cut_off(tmp_path):
    first, *rest = map(Image.fromarray, moving(9))
    first.save(tmp_path / "a.gif", save_all=True, append_images=rest, comment=b"settings")
    data = (tmp_path / "a.gif").read_bytes()
    for share in (2 / 3, 0.9, 0.5):
        (tmp_path / "a.gif").write_bytes(data[:int(len(data) * share)])
        assert "incomplete or damaged: " in refusal(tmp_path / "a.gif")
        assert len(list(zip(range(2), read.pictures(tmp_path / "a.gif")))) == 2
        assert metadata.read(tmp_path / "a.gif") == "settings"
        with pytest.raises(MediaError, match="damaged"):
            masks.read(tmp_path / "a.gif", 9)


@pytest.mark.parametrize("code", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_a_settings_file_of_any_editor(tmp_path, code):
    mark = {"utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff"}.get(code, b"")
    (tmp_path / "a.json").write_bytes(mark + '{"prompt": "赤い円"}'.encode(code))
    assert metadata.read(tmp_path / "a.json") == '{"prompt": "赤い円"}'


def test_other_letters_are_said_in_a_sentence(tmp_path):
    (tmp_path / "a.txt").write_bytes("été".encode("latin-1"))
    with pytest.raises(MediaError, match="no text in UTF-8 or UTF-16.*Save it as UTF-8"):
        metadata.read(tmp_path / "a.txt")


@NEEDS_VIDEO
def test_ffmpeg_does_not_guess(tmp_path):
    """SDP that begins like Matroska. A reader that lets ffmpeg guess binds a port and waits for 20 seconds."""
    begin = time.monotonic()
    for name in ("a.webm", "a.mkv", "a.png"):
        (tmp_path / name).write_bytes(SDP)
        assert "cannot be read" in refusal(tmp_path / name)
        with pytest.raises(MediaError):
            masks.read(tmp_path / name, 2)
        with pytest.raises(MediaError, match="damaged"):
            metadata.read(tmp_path / name)
    from animatediff.hosts.shared import clip_reader

    with pytest.raises(SyntaxError):
        clip_reader.first_frame(io.BytesIO(SDP), None)
    assert time.monotonic() - begin < 10
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{os.path.abspath(tmp_path)}/a.ts\n"
    for head in (b"", b"\x1aE\xdf\xa3", b"FLV\x01", b"\0\0\x01\xba"):
        (tmp_path / "a.mp4").write_bytes(head + playlist.encode())
        refusal(tmp_path / "a.mp4")


def gif(side: int, frames: int) -> bytes:
    frame = (b"\x21\xf9\x04\x08\x0a\0\0\0\x2c" + struct.pack("<4HB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\0")
    return b"GIF89a" + struct.pack("<HH3B", side, side, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff" + frame * frames + b";"


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side, frames", [(13_000, 1), (13_000, 90), (60_000, 1), (8000, 90), (2000, 3000),
                                          (1, 50_000)])
def test_a_small_file_cannot_cost_much(side, frames):
    data = gif(side, frames)
    begin = time.monotonic()
    with pytest.raises(MediaError, match="more than are read|at most 67 million|more pixels"):
        masks.read(data, 16)
    if frames == 1:
        with pytest.raises(ValueError, match="pixels"):
            read.decoded(base64.b64encode(data).decode())
    assert time.monotonic() - begin < 10


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_picture_of_a_few_kilobytes_that_claims_much_is_not_decoded(tmp_path, monkeypatch):
    Image.new("1", (13_000, 13_000)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    assert "13000×13000" in refusal(tmp_path / "a.png")
    for reader in (metadata.read, lambda path: masks.read(path, 1)):
        with pytest.raises(MediaError, match="13000×13000"):
            reader(tmp_path / "a.png")


@NEEDS_VIDEO
def test_frames_of_a_video_are_limited(tmp_path, monkeypatch):
    with ClipWriter(tmp_path / "a.mp4", "MP4") as clip:
        for frame in moving(5):
            clip.add(frame)
    monkeypatch.setattr(budget, "PIXELS", 64 * 47)
    assert "64×48" in refusal(tmp_path / "a.mp4")
    monkeypatch.undo()
    monkeypatch.setattr(budget, "of_mask", lambda video: budget.Budget(frames=4))
    with pytest.raises(MediaError, match="more than the 4 frames"):
        masks.read(tmp_path / "a.mp4", 2)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.gif")
    assert "is no file" in refusal(tmp_path / "pipe.gif")
    with pytest.raises(MediaError, match="is no file"):
        metadata.read(tmp_path / "pipe.gif")


def test_a_text_has_a_length(tmp_path, monkeypatch):
    monkeypatch.setattr(metadata, "TEXT", 100)
    (tmp_path / "a.txt").write_text("x" * 101)
    with pytest.raises(MediaError, match="more than"):
        metadata.read(tmp_path / "a.txt")
    monkeypatch.setattr(opening, "BYTES", 100)
    with pytest.raises(ValueError, match="more than"):
        read.decoded("A" * 1000)
    with pytest.raises(MediaError, match="more than"):
        read.embedded("A" * 1000, "file", "")
