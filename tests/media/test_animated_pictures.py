"""GIF, WebP and APNG, decoded by ffmpeg and OpenCV. Loop counts and delays are read from the bytes."""
from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from slow_cases import slow
from video_helpers import SETTINGS, moving, psnr

from animatediff.errors import MediaError
from animatediff.media.write import ClipWriter, WriteOptions, palette
from animatediff.media.write.base import changed


def write(path: Path, frames, fps=8.0, loop=0, metadata="", **options) -> Path:
    with ClipWriter(path, path.suffix[1:], fps, loop, metadata, options=WriteOptions(**options)) as clip:
        for frame in frames:
            clip.add(frame)
    assert clip.paths == [path] and not clip.notes
    return path


def gif_blocks(data: bytes):
    """An independent parser of GIF89a: (kind, content) for each extension and picture."""
    at = 13 + (3 * 2 ** ((data[10] & 7) + 1) if data[10] & 0x80 else 0)

    def chain(at):
        content = b""
        while data[at]:
            content += data[at + 1:at + 1 + data[at]]
            at += data[at] + 1
        return content, at + 1

    while data[at] != 0x3B:
        if data[at] == 0x21:
            content, after = chain(at + 2)
            yield data[at + 1], content
        else:
            assert data[at] == 0x2C
            place, flags = struct.unpack("<4H", data[at + 1:at + 9]), data[at + 9]
            content, after = chain(at + 11 + (3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0))
            yield 0x2C, place
        at = after
    assert at == len(data) - 1, "nothing stands behind the trailer"


def riff_chunks(data: bytes):
    assert data[:4] == b"RIFF" and data[8:12] == b"WEBP" and struct.unpack("<I", data[4:8])[0] == len(data) - 8
    at = 12
    while at < len(data):
        kind, size = struct.unpack("<4sI", data[at:at + 8])
        yield kind, data[at + 8:at + 8 + size]
        at += 8 + size + size % 2


def png_chunks(data: bytes):
    import zlib

    at = 8
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at:at + 8])
        assert struct.unpack(">I", data[at + 8 + size:at + 12 + size])[0] == zlib.crc32(data[at + 4:at + 8 + size])
        yield kind, data[at + 8:at + 8 + size]
        at += 12 + size


@pytest.mark.parametrize("plays, repeats", [(0, 0), (1, None), (2, 1), (5, 4), (65535, 65534)])
def test_gif_loop_extension_counts_repeats(tmp_path, plays, repeats):
    data = write(tmp_path / "a.gif", moving(2), loop=plays).read_bytes()
    found = [struct.unpack("<H", content[12:14])[0] for kind, content in gif_blocks(data)
             if kind == 0xFF and content.startswith(b"NETSCAPE2.0\x01")]
    assert found == ([] if repeats is None else [repeats])


@pytest.mark.parametrize("plays", [0, 1, 7, 65535])
def test_webp_and_apng_count_plays(tmp_path, plays):
    webp = dict(riff_chunks(write(tmp_path / "a.webp", moving(2), loop=plays).read_bytes()))
    assert struct.unpack("<IH", webp[b"ANIM"])[1] == plays
    apng = dict(png_chunks(write(tmp_path / "a.apng", moving(2), loop=plays).read_bytes()))
    assert struct.unpack(">2I", apng[b"acTL"]) == (2, plays)


@pytest.mark.parametrize("fps", [8, 23.976, 12.5, 30, 0.7])
def test_delays_in_the_bytes_add_up(tmp_path, fps):
    frames = moving(13, 16, 64)
    exact = 13 / Fraction(fps)
    data = write(tmp_path / "a.gif", frames, fps).read_bytes()
    delays = [struct.unpack("<H", content[1:3])[0] for kind, content in gif_blocks(data) if kind == 0xF9]
    assert len(delays) == 13 and abs(sum(delays) / 100 - exact) < 0.006
    chunks = riff_chunks(write(tmp_path / "a.webp", frames, fps).read_bytes())
    delays = [int.from_bytes(content[12:15], "little") for kind, content in chunks if kind == b"ANMF"]
    assert len(delays) == 13 and abs(sum(delays) / 1000 - exact) < 0.0011
    chunks = png_chunks(write(tmp_path / "a.apng", frames, fps).read_bytes())
    delays = [Fraction(*struct.unpack(">2H", content[20:24])) for kind, content in chunks if kind == b"fcTL"]
    assert len(delays) == 13 and abs(sum(delays) - exact) < 1e-4


@pytest.mark.parametrize("style", ["clip", "frame", "ffmpeg"])
def test_gif_of_few_colours_is_exact(tmp_path, ffmpeg, style):
    if style == "ffmpeg":
        pytest.importorskip("av")
    frames = moving(6, shades=False)
    decoded = ffmpeg.decode(write(tmp_path / "a.gif", frames, gif_palette=style))
    # palettegen averages colours in boxes of 5-6-5 bits, so small errors are allowed
    assert np.abs(decoded.astype(int) - np.stack(frames)).max() <= (4 if style == "ffmpeg" else 0)


@pytest.mark.parametrize("style", ["clip", "frame", "ffmpeg"])
@pytest.mark.parametrize("dither", [True, False])
def test_gif_of_many_colours_is_close(tmp_path, ffmpeg, style, dither):
    if style == "ffmpeg":
        pytest.importorskip("av")
    frames = moving(6)
    path = write(tmp_path / "a.gif", frames, metadata=SETTINGS, gif_palette=style, gif_dither=dither)
    decoded = ffmpeg.decode(path)
    assert decoded.shape == (6, 48, 64, 3)
    assert psnr(decoded, np.stack(frames)) > 31
    centre = decoded[0, 20, 12].astype(int)
    assert np.abs(centre - (220, 40, 60)).max() < 12, "a small object keeps its colour"


PICTURES = st.lists(st.sampled_from(["all", "inside", "left", "same", "back", "like an earlier one"]), max_size=10)


@pytest.mark.parametrize("dither", [True, slow(False)])
@settings(max_examples=40)
@given(PICTURES, st.integers(2, 4), st.integers(0, 2**32 - 1))
def test_ffmpegs_palette_is_used_in_threads_as_in_one(dither, changes, threads, seed):
    """The oracle is one paletteuse for all frames: outside the changed rectangle it repeats the previous frame."""
    pytest.importorskip("av")
    from animatediff.media.write.ffmpeg_palette import Palette

    rng = np.random.default_rng(seed)
    frames = [rng.integers(0, 256, (24, 33, 3), np.uint8)]  # more colours than fit into a palette
    for change in changes:
        frame = frames[rng.integers(len(frames)) if change in ("back", "like an earlier one") else -1].copy()
        inside = np.s_[2:5, 3:7]
        place = {"all": np.s_[:], "left": np.s_[:, :4], "same": np.s_[:0], "back": np.s_[:0]}.get(change, inside)
        frame[place] = rng.integers(0, 256, frame[place].shape, np.uint8)
        frames.append(frame)

    def mapped(threads: int) -> list[np.ndarray]:
        palette = Palette(Fraction(8))
        for frame in frames:
            palette.add(frame)
        return [indices for indices, _ in palette.mapped(iter(frames), dither, threads)]

    assert np.array_equal(mapped(threads), mapped(1))


def test_one_palette_keeps_a_still_background_still(tmp_path, ffmpeg):
    decoded = ffmpeg.decode(write(tmp_path / "a.gif", moving(6), gif_dither=False))
    assert (decoded[:, 40:] == decoded[:1, 40:]).all()


@pytest.mark.parametrize("ending", ["gif", "webp", "apng"])
def test_equal_frames_are_all_there(tmp_path, ending):
    """cv2 reads the files. Pillow's own writers would merge these frames."""
    cv2 = pytest.importorskip("cv2")
    frame = moving(1)[0]
    one = write(tmp_path / f"one.{ending}", [frame]).stat().st_size
    path = write(tmp_path / f"a.{ending}", [frame] * 5, loop=3)
    assert path.stat().st_size < one + 1000, "only what changed is stored"
    if ending == "gif":
        assert sum(kind == 0x2C for kind, _ in gif_blocks(path.read_bytes())) == 5
    else:
        assert len(read_animation(cv2, path)) == 5


def read_animation(cv2, path: Path) -> np.ndarray:
    """Return RGB frames [n h w 3], read by OpenCV's own parsers. It recognises APNG by the suffix .png."""
    if path.suffix == ".apng":
        path = path.rename(path.with_suffix(".png"))
    done, animation = cv2.imreadanimation(str(path))
    assert done
    return np.stack([np.asarray(frame)[..., 2::-1] for frame in animation.frames])


@pytest.mark.parametrize("ending, options", [("apng", {}), ("webp", {"webp_lossless": True})])
@pytest.mark.parametrize("size", [(48, 64), (47, 63)])
def test_lossless_formats_give_back_every_pixel(tmp_path, ending, options, size):
    cv2 = pytest.importorskip("cv2")
    frames = moving(7, *size)
    frames[5] = frames[4].copy()
    frames[6][-1, -1] = 0
    path = write(tmp_path / f"a.{ending}", frames, 23.976, 2, SETTINGS, **options)
    assert np.array_equal(read_animation(cv2, path), np.stack(frames))


def test_lossy_webp_follows_its_quality(tmp_path):
    cv2 = pytest.importorskip("cv2")
    frames = np.stack(moving(6))
    good, poor = (write(tmp_path / f"{q}.webp", frames, webp_quality=q) for q in (90, 10))
    assert good.stat().st_size > poor.stat().st_size
    assert psnr(read_animation(cv2, good), frames) > 32
    assert psnr(read_animation(cv2, good), frames) > psnr(read_animation(cv2, poor), frames)


FRAMES = hnp.arrays(np.uint8, st.tuples(st.just(2), st.integers(1, 9), st.integers(1, 9), st.just(3)),
                    elements=st.integers(0, 1))


@given(FRAMES, st.booleans())
def test_changed_is_all_that_changed_and_no_more(pair, even):
    before, now = pair
    left, top, right, bottom = changed(before, now, even=even)
    assert right > left and bottom > top and not (even and (left % 2 or top % 2))
    pasted = before.copy()
    pasted[top:bottom, left:right] = now[top:bottom, left:right]
    assert np.array_equal(pasted, now)
    rows, columns = np.nonzero((before != now).any(2))
    if len(rows):
        assert (right, bottom) == (columns.max() + 1, rows.max() + 1)
        assert columns.min() - left <= even and rows.min() - top <= even


def test_palette_beats_median_cut():
    """On a picture of many colours, without dithering, against Pillow's quantizer."""
    from PIL import Image

    rng = np.random.default_rng(0)
    frame = np.clip(np.stack(moving(1))[0] + rng.normal(0, 12, (48, 64, 3)), 0, 255).astype(np.uint8)
    histogram = palette.Histogram()
    histogram.add(frame)
    colours = histogram.palette().astype(int)
    assert histogram.exact is None and 200 < len(colours) <= 256
    distance = ((frame.reshape(-1, 1, 3).astype(int) - colours[None]) ** 2).sum(-1)
    ours = colours[distance.argmin(1)].reshape(frame.shape)
    other = np.asarray(Image.fromarray(frame).quantize(256, Image.Quantize.MEDIANCUT, dither=0).convert("RGB"))
    assert psnr(ours, frame) > psnr(other, frame)


def test_a_picture_too_large_for_webp_is_refused(tmp_path):
    with pytest.raises(MediaError, match="16383"):
        write(tmp_path / "a.webp", [np.zeros((2, 16384, 3), np.uint8)])
    assert list(tmp_path.iterdir()) == []
