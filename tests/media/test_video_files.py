"""MP4 and WebM, decoded by the ffmpeg program and OpenCV. Boxes are read from the bytes."""
from __future__ import annotations

import struct
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from video_helpers import SETTINGS, moving, psnr

from animatediff.errors import MediaError
from animatediff.media import metadata
from animatediff.media import write as writing
from animatediff.media.write import ClipWriter, WriteOptions
from animatediff.media.write.codecs import CODECS

av = pytest.importorskip("av")


def write(path: Path, frames, fps=8.0, metadata="", **options) -> Path:
    with ClipWriter(path, path.suffix[1:], fps, 0, metadata, options=WriteOptions(**options)) as clip:
        for frame in frames:
            clip.add(frame)
    assert clip.paths == [path] and not clip.notes
    return path


@pytest.mark.skipif(sys.platform != "linux", reason="names that Linux takes")
@pytest.mark.parametrize("name", ["12:30", "http:a", "file:b", "pipe:1", "%d 100%", "-x", "a\nb", "concat:a|b", "~",
                                  "'\"", "赤い 円", "\udcff", "a:b:c", "data:image", "x?y#z", "a\\b"])
@pytest.mark.parametrize("ending", ["mp4", "webm"])
def test_no_name_means_more_than_a_file(tmp_path, name, ending):
    write(tmp_path / f"{name}.{ending}", moving(2), metadata=SETTINGS)
    [path] = tmp_path.iterdir()
    assert path.name == f"{name}.{ending}" and metadata.read(path) == SETTINGS


@pytest.mark.parametrize("ending, least", [("mp4", 36), ("webm", 34)])
@pytest.mark.parametrize("count", [1, 2, 13])
def test_frames_come_back(tmp_path, ffmpeg, ending, least, count):
    frames = moving(count)
    decoded = ffmpeg.decode(write(tmp_path / f"a.{ending}", frames, metadata=SETTINGS))
    assert decoded.shape == (count, 48, 64, 3)
    # Chroma is stored at half size, so the edges of the red square are not compared.
    assert psnr(decoded[:, 32:], np.stack(frames)[:, 32:]) > least
    assert all(psnr(a, b) > 26 for a, b in zip(decoded, frames)), "each frame is in its place"


@pytest.mark.parametrize("ending", ["mp4", "webm"])
@pytest.mark.parametrize("fps, exact", [(23.976, 24000 / 1001), (29.97, 30000 / 1001), (8, 8), (7.5, 7.5), (60, 60),
                                        (0.5, 0.5)])
def test_frame_rate_and_duration(tmp_path, ffmpeg, ending, fps, exact):
    cv2 = pytest.importorskip("cv2")
    path = write(tmp_path / f"a.{ending}", moving(6), fps)
    video = cv2.VideoCapture(str(path))
    assert video.get(cv2.CAP_PROP_FPS) == pytest.approx(exact, rel=1e-4 if ending == "mp4" else 2e-3)
    shown = next(line for line in ffmpeg.describe(path).splitlines() if "Duration" in line).split()[1].rstrip(",")
    hours, minutes, seconds = map(float, shown.split(":"))
    assert hours * 3600 + minutes * 60 + seconds == pytest.approx(6 / exact, abs=0.011)


def test_mp4_timing_is_exact(tmp_path):
    """Media header: timescale and duration are whole ticks, so that 23.976 is exactly 24000/1001."""
    data = write(tmp_path / "a.mp4", moving(12), 23.976).read_bytes()
    at = data.index(b"mdhd") + 4
    assert data[at] == 0, "32-bit times"
    scale, duration = struct.unpack(">2I", data[at + 12:at + 20])
    assert duration * 24000 == 12 * 1001 * scale


COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "white": (255,) * 3, "black": (0,) * 3,
           "skin": (224, 172, 105)}


@pytest.mark.parametrize("ending", ["mp4", "webm"])
@pytest.mark.parametrize("colour", COLOURS.values(), ids=COLOURS)
def test_colours_follow_bt709(tmp_path, ffmpeg, ending, colour):
    """Stored values by the closed form of BT.709 (limited range), the tags that declare it, and RGB after decoding."""
    frame = np.empty((32, 48, 3), np.uint8)
    frame[:] = colour
    path = write(tmp_path / f"a.{ending}", [frame] * 3)
    red, green, blue = (value / 255 for value in colour)
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    stored = np.array([16 + 219 * luma, 128 + 224 * (blue - luma) / 1.8556, 128 + 224 * (red - luma) / 1.5748])
    planes = ffmpeg.decode(path, "yuv420p")[1].astype(float)
    at = 32 * 48
    found = [planes[:at].mean(), planes[at:at + at // 4].mean(), planes[at + at // 4:].mean()]
    assert np.abs(found - stored).max() < 1.6
    assert "yuv420p(tv, bt709" in ffmpeg.describe(path)
    assert np.abs(ffmpeg.decode(path)[1].astype(int) - colour).max() <= 4


def test_mp4_says_bt709_in_its_own_box(tmp_path):
    data = write(tmp_path / "a.mp4", moving(2)).read_bytes()
    at = data.index(b"colr") + 4
    assert data[at:at + 4] == b"nclx" and struct.unpack(">3H", data[at + 4:at + 10]) == (1, 1, 1)
    assert data[at + 10] == 0, "limited range"


def test_mp4_index_comes_first(tmp_path):
    data, at, order = write(tmp_path / "a.mp4", moving(2), metadata=SETTINGS).read_bytes(), 0, []
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at:at + 8])
        order.append(kind)
        at += size
    assert order.index(b"moov") < order.index(b"mdat")


@pytest.mark.parametrize("ending", ["mp4", "webm"])
@pytest.mark.parametrize("size", [(47, 63), (33, 64), (32, 33), (1, 1)])
def test_odd_sizes_are_padded_by_their_edge(tmp_path, ffmpeg, ending, size):
    height, width = size
    frames = [np.full((*size, 3), 90, np.uint8) for _ in range(3)]
    for frame in frames:
        frame[:, -4:], frame[-4:] = 200, 200
    decoded = ffmpeg.decode(write(tmp_path / f"a.{ending}", frames)).astype(int)
    assert decoded.shape[1:3] == (height + height % 2, width + width % 2)
    assert np.abs(decoded[:, height:] - 200).max(initial=0) < 12 and np.abs(decoded[:, :, width:] - 200).max(
        initial=0) < 12, "no black line"
    assert psnr(decoded[:, :height, :width], np.stack(frames)) > 33


@pytest.mark.parametrize("ending, low, high", [("mp4", {"mp4_crf": 12}, {"mp4_crf": 40}),
                                               ("webm", {"webm_crf": 10}, {"webm_crf": 60})])
def test_crf_trades_size_for_quality(tmp_path, ffmpeg, ending, low, high):
    rng = np.random.default_rng(1)
    frames = [np.clip(f + rng.normal(0, 9, f.shape), 0, 255).astype(np.uint8) for f in moving(6)]
    good, poor = write(tmp_path / f"good.{ending}", frames, **low), write(tmp_path / f"poor.{ending}", frames, **high)
    assert good.stat().st_size > 1.5 * poor.stat().st_size
    assert psnr(ffmpeg.decode(good), np.stack(frames)) > psnr(ffmpeg.decode(poor), np.stack(frames)) + 2


def test_webm_444_keeps_the_colour_of_single_pixels(tmp_path, ffmpeg):
    frame = np.zeros((32, 33, 3), np.uint8)
    frame[:, ::2, 0], frame[:, 1::2, 2] = 200, 200
    full = ffmpeg.decode(write(tmp_path / "444.webm", [frame] * 2, webm_pixels="yuv444p", webm_crf=5))
    half = ffmpeg.decode(write(tmp_path / "420.webm", [frame] * 2, webm_crf=5))
    assert full.shape == (2, 32, 33, 3), "and needs no even sizes"
    assert psnr(full[0], frame) > 30 > 20 > psnr(half[0][:, :33], frame)


@pytest.mark.parametrize("options, named", [({"mp4_crf": 52}, "0 … 51"), ({"gif_palette": "best"}, "clip, frame"),
                                            ({"webm_pixels": "rgb"}, "yuv444p"), ({"webp_quality": -1}, "0 … 100")])
def test_impossible_options_are_refused(options, named):
    with pytest.raises(MediaError, match=named):
        WriteOptions(**options)


def test_probe_names_the_extra_and_what_works(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MediaError) as caught:
        writing.probe(["gif", "mp4"])
    assert 'extra "video"' in str(caught.value) and "MP4: " in str(caught.value)
    assert caught.value.remedy.endswith("GIF, WEBP, APNG, PNG, TXT")
    with pytest.raises(MediaError):
        ClipWriter(tmp_path / "a.mp4", ["MP4"])
    with pytest.raises(MediaError):
        ClipWriter(tmp_path / "a.gif", ["GIF"], options=WriteOptions(gif_palette="ffmpeg"))
    with ClipWriter(tmp_path / "a.gif", ["GIF"]) as clip:
        clip.add(moving(1)[0])
    assert [p.name for p in tmp_path.iterdir()] == ["a.gif"]


def test_probe_finds_an_encoder_that_is_not_there(monkeypatch):
    monkeypatch.setitem(CODECS, "H.264", replace(CODECS["H.264"], encoders=("libnothing",)))
    with pytest.raises(MediaError, match="libnothing"):
        writing.probe("mp4")
    writing.probe(["webm", "gif"])
