"""ClipWriter: names, formats and streaming. test_clip_writer_failures.py tests failures."""
from __future__ import annotations

import errno
import json
import os
import random
import subprocess
import sys
import threading
import time
import tracemalloc

import numpy as np
import pytest
from PIL import Image
from video_helpers import ALL, SETTINGS, frames_in, moving, tree

from animatediff.errors import MediaError
from animatediff.media import metadata
from animatediff.media.write import WRITERS, ClipWriter, Target, WriteOptions, clip_writer, format_of, names


def test_all_formats_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(clip_writer, "CORES", 2)
    frames = moving(5)
    with ClipWriter(tmp_path / "new" / "demo.gif", [name.lower() for name in ALL], 8, 0, SETTINGS) as clip:
        for index, frame in enumerate(frames):
            clip.add(Image.fromarray(frame) if index % 2 else frame)
            if index > 1:
                assert (tmp_path / f"new/demo/{index - 2:05d}.png").exists(), \
                    "frames are on disk while the next ones are made"
    endings = [WRITERS[name].extension for name in ALL if name != "PNG"]
    pictures = [f"new/demo/{i:05d}.png" for i in range(5)]
    assert tree(tmp_path) == sorted([f"new/demo.{e}" for e in endings] + pictures)
    assert sorted(map(str, clip.paths)) == sorted(str(tmp_path / name) for name in tree(tmp_path))
    assert clip.paths[0].name == "demo.gif", "in the order of the formats"
    for path in clip.paths:
        assert metadata.read(path) == SETTINGS, path
        if path.suffix not in (".txt", ".png"):
            assert frames_in(path) == 5, path
    for index, frame in enumerate(frames):
        assert np.array_equal(np.asarray(Image.open(tmp_path / f"new/demo/{index:05d}.png")), frame)
    assert json.loads((tmp_path / "new/demo.txt").read_text("utf-8")) == json.loads(SETTINGS)


def test_only_txt_contains_text_that_is_not_embedded(tmp_path):
    with ClipWriter(tmp_path / "a.gif", ALL, 8, 0, SETTINGS, options=WriteOptions(embed_text=False)) as clip:
        for frame in moving(3):
            clip.add(frame)
        clip.describe(SETTINGS)
    assert len(clip.paths) >= len(ALL)
    for path in clip.paths:
        assert (metadata.read(path) or "") == (SETTINGS if path.suffix == ".txt" else ""), path


def test_a_frame_is_written_while_the_next_is_made(tmp_path, monkeypatch):
    begun, made, add = threading.Event(), threading.Event(), WRITERS["PNG"].add

    def slow(self, frame):
        begun.set()
        assert made.wait(10), "the caller was not let go"
        add(self, frame)

    monkeypatch.setattr(WRITERS["PNG"], "add", slow)
    with ClipWriter(tmp_path, ["PNG"]) as clip:
        for frame in moving(3):
            begun.clear()
            clip.add(frame)
            assert begun.wait(10)
            made.set()
    assert len(clip.paths) == 3 and not [t for t in threading.enumerate() if t.name.startswith("clip ")]


def test_formats_are_written_side_by_side(tmp_path, monkeypatch):
    both = threading.Barrier(2, timeout=10)
    for name in ("GIF", "PNG"):
        add = WRITERS[name].add
        monkeypatch.setattr(WRITERS[name], "add", lambda self, frame, add=add: (both.wait(), add(self, frame)))
    with ClipWriter(tmp_path, ["GIF", "PNG"]) as clip:
        for frame in moving(3):
            clip.add(frame)
    assert len(clip.paths) == 4 and not clip.lost


def test_what_is_known_last_is_in_the_files_that_end_with_their_text(tmp_path):
    with ClipWriter(tmp_path / "a.gif", ALL, metadata="first") as clip:
        for frame in moving(3):
            clip.add(frame)
        clip.describe("first and last")
    assert {path.suffix for path in clip.paths if metadata.read(path) == "first and last"} == {".gif", ".webp", ".txt"}
    assert {metadata.read(path) for path in clip.paths} == {"first", "first and last"}
    assert {frames_in(path) for path in clip.paths if path.suffix in (".gif", ".webp")} == {3}


@pytest.mark.parametrize("target, made", [
    ("demo.gif", "demo.gif"), ("demo.GIF", "demo.gif"), ("demo.mp4", "demo.gif"), ("v1.5.webp", "v1.5.gif"),
    ("out", "out/clip.gif"), ("out.v2", "out.v2/clip.gif"), ("", "clip.gif"), ("赤い 円.gif", "赤い 円.gif"),
    ("a/b/c.png", "a/b/c.gif")])
def test_names(tmp_path, target, made):
    with ClipWriter(tmp_path / target, "GIF") as clip:
        clip.add(moving(1)[0])
    assert tree(tmp_path) == [made]


def test_a_folder_with_the_ending_of_a_file(tmp_path):
    with ClipWriter(Target(f"{tmp_path}/odd.gif/", "x"), "TXT", metadata="s") as clip:
        clip.add(moving(1)[0])
    assert tree(tmp_path) == ["odd.gif/x.txt"]


def test_format_names():
    assert names(["gif", "Mp4", ".png", "GIF"]) == ["GIF", "MP4", "PNG"] and names("webp") == ["WEBP"]
    assert format_of("x/demo.WebM") == "WEBM" and format_of("demo") is None and format_of("a.avi") is None
    for bad in (["GIF", "AVI"], [], [""]):
        with pytest.raises(MediaError, match="GIF, MP4, WEBM, MOV, MKV, WEBP, APNG, PNG, TXT"):
            names(bad)


def test_bad_places_are_found_before_the_run(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "taken.gif").mkdir()
    with pytest.raises(MediaError, match="folder of this name"):
        ClipWriter(tmp_path / "taken.gif", "GIF")
    with pytest.raises(MediaError, match="but it is a file"):
        ClipWriter(tmp_path / "file.gif", ["GIF", "PNG"])
    with pytest.raises(MediaError, match="choose another name"):
        ClipWriter(tmp_path / "file" / "a.gif", "GIF")
    with pytest.raises(MediaError, match=r"\.avi files cannot be written.*\.mp4"):
        ClipWriter(tmp_path / "a.avi", "GIF")
    with pytest.raises(MediaError, match="shorter name"):
        ClipWriter(tmp_path / ("a" * 300 + ".gif"), "GIF")
    for name in ("a" * 300, "a" * 300 + ".avif"):
        with pytest.raises(MediaError):
            ClipWriter(tmp_path / name, "GIF")
    assert tree(tmp_path) == ["file"]


def test_the_longest_name_the_system_allows(tmp_path):
    with ClipWriter(tmp_path / ("a" * 250 + ".apng"), ALL, metadata="s") as clip:
        clip.add(moving(1)[0])
    assert len(clip.paths) == len(ALL)


def test_a_folder_that_refuses(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("animatediff.disk.open_new", refuse)
    with pytest.raises(MediaError, match="Permission denied.*in which you may write"):
        ClipWriter(tmp_path / "a.gif", "GIF")


@pytest.mark.parametrize("frame, said", [
    (np.zeros((8, 8, 3)), "float64"), (np.zeros((8, 8), np.uint8), "uint8"), ("x", "str"),
    (np.zeros((0, 8, 3), np.uint8), "uint8"), (np.zeros((8, 9, 3), np.uint8), "9×8, but the clip is 8×8")])
def test_bad_frames(tmp_path, frame, said):
    clip = ClipWriter(tmp_path / "a.gif", ["GIF", "PNG"])
    clip.add(np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(MediaError, match=said):
        clip.add(frame)
    clip.add(np.ones((8, 8, 3), np.uint8))
    assert len(clip.close()) == 3 == 1 + len(clip.close()[1:]), "closing twice is harmless"
    with pytest.raises(MediaError, match="closed"):
        clip.add(np.zeros((8, 8, 3), np.uint8))


@pytest.mark.parametrize("changes", [{"loop_number": -1}, {"loop_number": 65536}, {"loop_number": 1.5}, {"fps": 0},
                                     {"metadata": "a\0b"}, {"metadata": "\ud83d"}])
def test_bad_arguments(tmp_path, changes):
    with pytest.raises(MediaError):
        ClipWriter(tmp_path / "a.gif", "GIF", **changes)


def test_no_frames_leave_no_files(tmp_path):
    with pytest.raises(MediaError, match="no frames"):
        ClipWriter(tmp_path / "a.gif", ALL, metadata="s").close()
    assert tree(tmp_path) == []


def test_a_buffer_that_is_reused_does_no_harm(tmp_path):
    buffer, frames = np.empty((48, 64, 3), np.uint8), moving(4)
    with ClipWriter(tmp_path / "a.apng", "APNG") as clip:
        for frame in frames:
            buffer[:] = frame
            clip.add(buffer)
    with Image.open(tmp_path / "a.apng") as image:
        for index, frame in enumerate(frames):
            image.seek(index)
            assert np.array_equal(np.asarray(image.convert("RGB")), frame)


@pytest.mark.parametrize("name", ["GIF", "WEBP", "APNG", "PNG"])
def test_memory_does_not_grow_with_the_clip(tmp_path, name):
    """The frames are noise, so a compressed copy would be as large as the frame."""
    def peak(count: int) -> int:
        rng = np.random.default_rng(0)
        with ClipWriter(tmp_path / f"{count}.{WRITERS[name].extension}", name) as clip:
            tracemalloc.start()
            for _ in range(count):
                clip.add(rng.integers(0, 256, (128, 128, 3), np.uint8))
            clip.close()
            _, most = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        return most

    peak(1)  # so that imports are not measured
    assert peak(40) < peak(8) + 4 * 128 * 128 * 3


def test_files_are_the_same_however_many_frames_are_under_way(tmp_path, monkeypatch):
    """Frames become ready in any order."""
    delays = random.Random(0)
    formats = ["GIF", "WEBP", "APNG", "PNG"]  # not MP4: x264 is not deterministic
    for name in formats:
        ready = WRITERS[name].ready

        def slow(self, before, frame, ready=ready):
            time.sleep(delays.uniform(0, 0.02) if clip_writer.CORES > 1 else 0)
            return ready(self, before, frame)

        monkeypatch.setattr(WRITERS[name], "ready", slow)
    files = {}
    for cores in (1, 5):
        monkeypatch.setattr(clip_writer, "CORES", cores)
        with ClipWriter(tmp_path / str(cores) / "a.gif", formats, options=WriteOptions(gif_palette="frame")) as clip:
            for frame in moving(9):
                clip.add(frame)
        files[cores] = {path.relative_to(tmp_path / str(cores)): path.read_bytes() for path in clip.paths}
    assert len(files[1]) == 3 + 9 and files[1] == files[5]


def test_older_frames_are_mentioned(tmp_path):
    for count in (5, 3):
        with ClipWriter(tmp_path / "a.gif", "PNG") as clip:
            for frame in moving(count):
                clip.add(frame)
    assert clip.notes == [f"{tmp_path / 'a'} holds 2 older frames, from 00003.png on"]
    assert len(clip.paths) == 3 and len(tree(tmp_path)) == 5


def test_files_have_the_users_permissions(tmp_path):
    before = os.umask(0o022)
    try:
        with ClipWriter(tmp_path / "a.gif", ALL, metadata="s") as clip:
            clip.add(moving(1)[0])
    finally:
        os.umask(before)
    if os.name == "posix":
        assert {path.stat().st_mode & 0o777 for path in clip.paths} == {0o644}


def test_importing_the_writers_imports_no_encoder():
    code = ("import sys, animatediff.media.write.clip_writer, animatediff.media.metadata; "
            "print([m for m in ('av', 'imageio', 'cv2', 'torch', 'diffusers', 'gradio', 'modules') "
            "if m in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
