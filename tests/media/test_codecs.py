"""Codecs, bit depth and transparency of video files, decoded by the ffmpeg program; 16-bit PNG by OpenCV."""
from __future__ import annotations

import re
import subprocess

import numpy as np
import pytest
from PIL import Image

from animatediff import settings as table
from animatediff.errors import MediaError
from animatediff.media import metadata
from animatediff.media.write import WRITERS, ClipWriter, WriteOptions, probe
from animatediff.media.write.codecs import CODECS, PRESETS, TAKEN

pytest.importorskip("av")
HEIGHT, WIDTH = 64, 96
COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (224, 172, 105))
NAMES = {"H.264": "h264", "H.265": "hevc", "AV1": "av1", "VP9": "vp9", "ProRes 422 HQ": "prores (HQ)",
         "ProRes 4444": "prores (4444)", "FFV1": "ffv1"}
PAIRS = [(form, codec) for form, codecs in TAKEN.items() for codec in codecs]


def write(path, frames, form, loop=0, fps=10, **options):
    with ClipWriter(path, form, fps, loop, '{"a": 1}', options=WriteOptions(**options)) as clip:
        for frame in frames:
            clip.add(frame)
    return clip


def decoded(path, ffmpeg, pixels="rgb24", codec=()) -> np.ndarray:
    """Return the frames [frames h w channels]."""
    command = [ffmpeg.program, "-v", "error", *codec, "-i", str(path), "-fps_mode", "passthrough", "-pix_fmt", pixels,
               "-sws_flags", "accurate_rnd+full_chroma_int+bicubic", "-f", "rawvideo", "-"]
    raw = subprocess.run(command, capture_output=True, check=True).stdout
    return np.frombuffer(raw, np.uint16 if "48" in pixels or "64" in pixels else np.uint8).reshape(
        -1, HEIGHT, WIDTH, 4 if "a" in pixels else 3)


def described(path, ffmpeg) -> str:
    return next(line for line in ffmpeg.describe(path).splitlines() if "Video:" in line)


def ramp(bits=16) -> np.ndarray:
    """Return a grey ramp from black to white, left to right and row by row."""
    share = np.linspace(0, 1, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH, 1).repeat(3, 2)
    return np.rint(share * (2**bits - 1)).astype(np.uint16 if bits == 16 else np.uint8)


@pytest.mark.parametrize("form, codec", PAIRS)
def test_codec_frames_times_and_colours(tmp_path, ffmpeg, form, codec):
    frames = [np.full((HEIGHT, WIDTH, 3), colour, np.uint8) for colour in COLOURS]
    [path] = write(tmp_path / f"a.{form.lower()}", frames, form, video_codec=codec, fps=23.976).paths
    line, pixels = described(path, ffmpeg), decoded(path, ffmpeg).astype(int)
    assert f"Video: {NAMES[codec]}" in line and ("bt709" in line) and ("(tv, bt709" in line or "(pc, gbr" in line)
    assert len(pixels) == len(COLOURS) and metadata.read(path) == '{"a": 1}'
    assert np.abs(pixels - np.stack(frames)).max() <= (0 if codec == "FFV1" else 2)
    shown = re.search(r"Duration: 00:00:([\d.]+)", ffmpeg.describe(path))[1]
    assert float(shown) == pytest.approx(6 * 1001 / 24000, abs=0.011)
    if codec == "H.265" and form in ("MP4", "MOV"):
        assert "hvc1" in line  # the only tag that Apple's players accept


@pytest.mark.parametrize("form, codec, pixels", [
    ("MP4", "H.264", "yuv420p10le"), ("MP4", "H.265", "yuv420p10le"), ("WEBM", "AV1", "yuv420p10le"),
    ("MOV", "ProRes 422 HQ", "yuv422p10le"), ("MKV", "FFV1", "gbrp10le")])
def test_ten_bits_are_more_than_256_levels(tmp_path, ffmpeg, form, codec, pixels):
    [path] = write(tmp_path / f"a.{form.lower()}", [ramp()] * 2, form, video_codec=codec, bit_depth=10).paths
    assert pixels in described(path, ffmpeg)
    plane = "gray10le" if pixels != "gbrp10le" else "gbrp10le"
    command = [ffmpeg.program, "-v", "error", "-i", str(path), "-frames:v", "1", "-pix_fmt", plane, "-f", "rawvideo",
               "-"]
    luma = np.frombuffer(subprocess.run(command, capture_output=True, check=True).stdout, np.uint16)
    assert len(np.unique(luma)) > 600
    error = np.abs(decoded(path, ffmpeg, "rgb48le")[0].astype(float) - ramp()) / 257
    assert error.mean() < 1


def test_sixteen_bits_are_lossless_in_ffv1_and_png(tmp_path, ffmpeg):
    cv2 = pytest.importorskip("cv2")
    rng = np.random.default_rng(0)
    frames = [ramp(), rng.integers(0, 65536, (HEIGHT, WIDTH, 3), np.uint16)]
    clip = write(tmp_path / "a.mkv", frames, ["MKV", "PNG", "APNG", "GIF"], bit_depth=16)
    mkv, *stills, apng, gif = clip.paths
    assert np.array_equal(decoded(mkv, ffmpeg, "rgb48le"), np.stack(frames))
    for path, frame in zip(stills, frames):
        assert np.array_equal(cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[..., ::-1], frame)
        assert metadata.read(path) == '{"a": 1}'
    assert np.array_equal(decoded(apng, ffmpeg, "rgb48le"), np.stack(frames))
    assert clip.notes == ["GIF can only contain 8 bits per channel"]
    with Image.open(gif) as image:
        assert image.n_frames == 2


@pytest.mark.parametrize("form, options, decoder", [
    ("MOV", {"video_codec": "ProRes 4444"}, ()), ("MKV", {}, ()), ("WEBM", {}, ("-c:v", "libvpx-vp9")),
    ("APNG", {}, ()), ("WEBP", {"webp_lossless": True}, None), ("PNG", {}, None)])
def test_transparency_stays(tmp_path, ffmpeg, form, options, decoder):
    frames = []
    for index in range(3):
        alpha = np.tile(np.linspace(0, 255, WIDTH), (HEIGHT, 1))
        frames.append(np.dstack([np.full((HEIGHT, WIDTH, 3), 60 + 60 * index), alpha]).astype(np.uint8))
    clip = write(tmp_path / "a.gif", frames, form, **options)
    assert not clip.notes
    if decoder is None:
        images = [Image.open(path) for path in clip.paths]
        found = [np.asarray(image.convert("RGBA")) for image in images]
    else:
        found = decoded(clip.paths[0], ffmpeg, "rgba", decoder)
        assert len(found) == 3
    for pixels, frame in zip(found, frames):
        assert np.abs(pixels[..., 3].astype(int) - frame[..., 3]).max() <= (3 if form == "WEBM" else 1)
        seen = frame[..., 3] > 128
        assert np.abs(pixels[seen].astype(int) - frame[seen])[..., :3].max() <= (3 if form in ("WEBM", "MOV") else 0)


def test_what_cannot_be_transparent_is_white(tmp_path, ffmpeg):
    frame = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    frame[:, WIDTH // 2:, 3] = 255
    clip = write(tmp_path / "a.mp4", [frame] * 2, ["MP4", "PNG"])
    assert clip.notes == ["MP4 cannot contain transparency, which is white"]
    left, right = np.split(decoded(clip.paths[0], ffmpeg)[0], 2, axis=1)
    assert left[:, :-4].min() > 250 and right[:, 4:].max() < 5


@pytest.mark.parametrize("form, codec", [("MP4", "H.264"), ("MP4", "H.265"), ("WEBM", "VP9"), ("MKV", "AV1"),
                                         ("MOV", "ProRes 422 HQ"), ("MKV", "FFV1")])
@pytest.mark.parametrize("count", [1, 5])
def test_repetitions_are_written_out(tmp_path, ffmpeg, form, codec, count):
    frames = [np.roll(ramp(8), 40 * i, axis=1) for i in range(count)]
    [once] = write(tmp_path / f"a.{form.lower()}", frames, form, loop=4, video_codec=codec).paths
    [path] = write(tmp_path / f"b.{form.lower()}", frames, form, loop=4, video_codec=codec, repeats=True).paths
    one, four = decoded(once, ffmpeg), decoded(path, ffmpeg)
    assert len(one) == count and np.array_equal(four, np.concatenate([one] * 4))
    shown = re.search(r"Duration: 00:00:([\d.]+)", ffmpeg.describe(path))[1]
    assert float(shown) == pytest.approx(count * 0.4, abs=0.011)


def test_crf_and_preset_reach_the_encoder(tmp_path):
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8) for _ in range(4)]
    for form, codec in (("MP4", "H.264"), ("MP4", "H.265"), ("WEBM", "VP9"), ("WEBM", "AV1")):
        sizes = [write(tmp_path / f"{crf}.{form.lower()}", frames, form, video_codec=codec, video_crf=crf,
                       video_preset=preset).paths[0].stat().st_size
                 for crf, preset in ((10, "fast"), (45, "fast"), (45, "veryslow"))]
        assert sizes[0] > 1.5 * sizes[1] and sizes[2] != sizes[1]


@pytest.mark.parametrize("form, options, said", [
    ("WEBM", {"video_codec": "H.264"}, "WEBM cannot contain H.264. Use VP9 or AV1 for WEBM, or save H.264 as MP4"),
    ("MP4", {"video_codec": "ProRes 4444"}, "MP4 cannot contain ProRes 4444"),
    ("MP4", {"video_codec": "H.264", "video_crf": 52}, "video_crf: 52 is more than H.264 has. Use 0 to 51")])
def test_what_does_not_fit_is_refused_with_what_does(form, options, said):
    with pytest.raises(MediaError, match=re.escape(said)):
        probe(["GIF", form], WriteOptions(**options))


def test_the_settings_offer_what_there_is():
    assert ("auto", *CODECS) == table.VIDEO_CODECS and ("auto", *PRESETS) == table.VIDEO_PRESETS
    assert set(TAKEN) <= set(table.FORMATS) and set(table.FORMATS) - {"Frame"} == set(WRITERS)
