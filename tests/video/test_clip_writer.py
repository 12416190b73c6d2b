"""ClipWriter: names, streaming, and what is left when something fails."""
from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from video_helpers import SETTINGS, moving, noise

from animatediff.errors import MediaError
from animatediff.video import base, metadata
from animatediff.video.write import WRITERS, ClipWriter, WriteError, format_of, names

try:
    import av  # noqa: F401
    ALL = list(WRITERS)
except ImportError:
    ALL = [name for name in WRITERS if name not in ("MP4", "WEBM")]
NEEDS_VIDEO = pytest.mark.skipif("MP4" not in ALL, reason="PyAV is not installed")


def tree(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def frames_in(path: Path) -> int:
    if path.suffix in (".mp4", ".webm"):
        import cv2

        video, count = cv2.VideoCapture(str(path)), 0
        while video.read()[0]:
            count += 1
        return count
    with Image.open(path) as image:
        return image.n_frames


def test_all_formats_at_once(tmp_path):
    frames = moving(5)
    with ClipWriter(tmp_path / "new" / "demo.gif", [name.lower() for name in ALL], 8, 0, SETTINGS) as clip:
        for index, frame in enumerate(frames):
            clip.add(Image.fromarray(frame) if index % 2 else frame)
            assert (tmp_path / f"new/demo/{index:05d}.png").exists(), "frames are on disk at once"
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


@pytest.mark.parametrize("target, made", [
    ("demo.gif", "demo.gif"), ("demo.GIF", "demo.gif"), ("demo.mp4", "demo.gif"), ("v1.5.webp", "v1.5.gif"),
    ("out", "out/clip.gif"), ("out.v2", "out.v2/clip.gif"), ("", "clip.gif"), ("赤い 円.gif", "赤い 円.gif"),
    ("a/b/c.png", "a/b/c.gif")])
def test_names(tmp_path, target, made):
    with ClipWriter(tmp_path / target, "GIF") as clip:
        clip.add(moving(1)[0])
    assert tree(tmp_path) == [made]


def test_a_folder_with_the_ending_of_a_file(tmp_path):
    with ClipWriter(f"{tmp_path}/odd.gif/", "TXT", name="x", metadata="s") as clip:
        clip.add(moving(1)[0])
    assert tree(tmp_path) == ["odd.gif/x.txt"]


def test_format_names():
    assert names(["gif", "Mp4", ".png", "GIF"]) == ["GIF", "MP4", "PNG"] and names("webp") == ["WEBP"]
    assert format_of("x/demo.WebM") == "WEBM" and format_of("demo") is None and format_of("a.mov") is None
    for bad in (["GIF", "AVI"], [], [""]):
        with pytest.raises(MediaError, match="GIF, MP4, WEBM, WEBP, APNG, PNG, TXT"):
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
    with pytest.raises(MediaError, match=r"\.mov files cannot be written.*\.mp4"):
        ClipWriter(tmp_path / "a.mov", "GIF")
    with pytest.raises(MediaError, match="shorter name"):
        ClipWriter(tmp_path / ("a" * 300 + ".gif"), "GIF")
    assert tree(tmp_path) == ["file"]


def test_the_longest_name_the_system_allows(tmp_path):
    with ClipWriter(tmp_path / ("a" * 250 + ".apng"), ALL, metadata="s") as clip:
        clip.add(moving(1)[0])
    assert len(clip.paths) == len(ALL)


def test_a_folder_that_refuses(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("animatediff.video.write.open_new", refuse)
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
    """Frames of noise, so that a compressed copy would be as large as the frame."""
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

    peak(1)  # imports
    assert peak(40) < peak(8) + 4 * 128 * 128 * 3


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


class FullDisk:
    """A file on a disk that takes `room` bytes and no more."""

    def __init__(self, file, room: int):
        self._file, self._room = file, room

    def write(self, data):
        self._room -= len(data)
        if self._room < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self._file.write(data)

    def __getattr__(self, name):
        return getattr(self._file, name)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._file.close()


@pytest.mark.parametrize("victim, room", [("GIF", 0), ("GIF", 4000), ("APNG", 0), ("APNG", 4000), ("WEBP", 0),
                                          ("WEBP", 4000), ("PNG", 0), ("PNG", 4000), ("TXT", 0)])
def test_a_full_disk_loses_only_what_did_not_fit(tmp_path, monkeypatch, victim, room):
    rest = ["GIF", "APNG", "WEBP", "PNG", "TXT"]
    opened = base.open_new
    ending = "." + WRITERS[victim].extension

    def limited(path):
        if victim == "PNG" and room and path.name.startswith(".00000"):
            return opened(path)  # the first frame fits
        mine = path.name.removesuffix(".part").rsplit(".", 1)[0].endswith(ending)
        return FullDisk(opened(path), room if victim != "PNG" else 100) if mine else opened(path)

    monkeypatch.setattr(base, "open_new", limited)
    (tmp_path / "a.gif").write_bytes(b"an older clip")
    frames = noise(6)
    clip = ClipWriter(tmp_path / "a.gif", rest, metadata=SETTINGS)
    with pytest.raises(WriteError, match="No space left.*Free some space") as caught, clip:
        for frame in frames:
            clip.add(frame)
    kept = [str(tmp_path / name) for name in tree(tmp_path)]
    if victim == "GIF":
        assert (tmp_path / "a.gif").read_bytes() == b"an older clip", "the old file stays when the new one fails"
        kept.remove(str(tmp_path / "a.gif"))
    assert list(caught.value.lost) == [victim] and sorted(map(str, caught.value.kept)) == sorted(kept)
    assert clip.paths == caught.value.kept
    for name in set(rest) - {victim, "PNG", "TXT"}:
        assert frames_in(tmp_path / f"a.{WRITERS[name].extension}") == 6
    assert len(list(tmp_path.glob("a/*.png"))) == ((1 if room else 0) if victim == "PNG" else 6)
    assert not list(tmp_path.rglob(".*")), "nothing half written"


def test_when_nothing_is_left_the_run_stops(tmp_path, monkeypatch):
    clip = ClipWriter(tmp_path / "a.gif", "APNG")
    monkeypatch.setattr(base, "open_new", lambda path: FullDisk(open(path, "x+b"), 50_000))
    with pytest.raises(WriteError, match="kept: nothing"), clip:
        for count, frame in enumerate(noise(12)):
            clip.add(frame)
    assert count < 11 and tree(tmp_path) == []


SMALL_DISK = """
import resource, sys
import numpy as np
from animatediff.video.write import ClipWriter, WriteError
folder, limit = sys.argv[1], int(sys.argv[2])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
rng = np.random.default_rng(0)
try:
    with ClipWriter(folder + "/a.mp4", ["MP4", "WEBM", "APNG", "PNG", "TXT"], metadata="{}") as clip:
        for _ in range(16):
            clip.add(rng.integers(0, 256, (96, 96, 3), np.uint8))
except WriteError as error:
    print(",".join(error.lost), len(error.kept), error)
"""


def run_on(folder: Path, limit: int) -> str:
    done = subprocess.run([sys.executable, "-c", SMALL_DISK, str(folder), str(limit)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@NEEDS_VIDEO
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="file size limits as Linux has them")
def test_a_real_limit_on_file_size(tmp_path):
    """The kernel refuses bytes 60 001 and on of any file: encoders fail, single frames and the text do not."""
    said = run_on(tmp_path, 60000)
    lost, kept = said.split()[:2]
    assert set(lost.split(",")) == {"MP4", "WEBM", "APNG"} and kept == "17"
    assert "File too large" in said
    assert tree(tmp_path) == ["a.txt"] + [f"a/{i:05d}.png" for i in range(16)]


@NEEDS_VIDEO
def test_a_real_full_disk(tmp_path):
    """A file system of 300 kB, where one can be mounted."""
    folder = tmp_path / "small"
    folder.mkdir()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", folder], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no rights to mount a file system")
    try:
        said = run_on(folder, 0)
        assert "No space left" in said and "Free some space" in said
        kept = tree(folder)
        assert int(said.split()[1]) == len(kept) >= 2 and "a.txt" in kept
        for name in kept:
            if name.endswith(".png"):
                Image.open(folder / name).load()
        assert not [name for name in kept if "part" in name]
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_leaving_by_an_exception_keeps_the_frames_so_far(tmp_path, error):
    clip = ClipWriter(tmp_path / "a.gif", ALL, metadata=SETTINGS)
    with pytest.raises(error), clip:
        for index, frame in enumerate(moving(6)):
            if index == 3:
                raise error
            clip.add(frame)
    assert len(clip.paths) == len(ALL) + 2 and clip.notes == []
    for path in clip.paths:
        assert metadata.read(path) == SETTINGS
        if path.suffix not in (".txt", ".png"):
            assert frames_in(path) == 3
    assert not list(tmp_path.rglob(".*"))


@pytest.mark.skipif(threading.current_thread() is not threading.main_thread() or os.name != "posix",
                    reason="signals reach the main thread")
@pytest.mark.parametrize("victim", ALL)
def test_ctrl_c_inside_a_writer_waits_until_the_frame_is_whole(tmp_path, monkeypatch, victim):
    add = WRITERS[victim].add

    def interrupted(self, frame):
        if self.count == 2:
            os.kill(os.getpid(), signal.SIGINT)
        add(self, frame)

    monkeypatch.setattr(WRITERS[victim], "add", interrupted)
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        pytest.skip("this process ignores Ctrl-C, as one in a shell's background does")
    clip = ClipWriter(tmp_path / "a.gif", ALL, metadata=SETTINGS)
    with pytest.raises(KeyboardInterrupt), clip:
        for frame in moving(6):
            clip.add(frame)
    assert signal.getsignal(signal.SIGINT) is before
    assert clip.count == 3 and clip.notes == [] and len(clip.paths) == len(ALL) + 2
    assert all(frames_in(path) == 3 for path in clip.paths if path.suffix not in (".txt", ".png"))


@pytest.mark.parametrize("victim", ALL)
def test_torn_frames_do_not_reach_a_file(tmp_path, monkeypatch, victim):
    """An exception out of the middle of a frame (a host that kills its thread): whole frames or no file."""
    add = WRITERS[victim].add

    def torn(self, frame):
        add(self, frame)
        if self.count == 3:
            if isinstance(self, base.StreamWriter) and self._whole:
                self.part.file.write(b"half a frame")
            self._torn = True
            raise SystemExit

    monkeypatch.setattr(WRITERS[victim], "add", torn)
    clip = ClipWriter(tmp_path / "a.gif", ALL, metadata=SETTINGS)
    with pytest.raises(SystemExit), clip:
        for frame in moving(6):
            clip.add(frame)
    lost = victim in ("MP4", "WEBM")
    assert [note.split()[0] for note in clip.notes] == ([victim] if lost else [])
    for path in clip.paths:
        assert metadata.read(path) == SETTINGS
        if path.suffix not in (".txt", ".png"):
            assert frames_in(path) in (2, 3)
    assert not list(tmp_path.rglob(".*"))


@NEEDS_VIDEO
def test_an_encoder_that_crashes(tmp_path, monkeypatch):
    encode = WRITERS["MP4"]._encode

    def crash(self, frame):
        if self.count == 2 and self.path.name == "a.mp4":
            raise RuntimeError("encoder fell over")
        encode(self, frame)

    monkeypatch.setattr(WRITERS["MP4"], "_encode", crash)
    with pytest.raises(WriteError, match="MP4 .*encoder fell over") as caught:
        with ClipWriter(tmp_path / "a.gif", ["MP4", "GIF"]) as clip:
            for frame in moving(6):
                clip.add(frame)
    assert caught.value.kept == [tmp_path / "a.gif"] and frames_in(tmp_path / "a.gif") == 6
    assert tree(tmp_path) == ["a.gif"]


def test_importing_the_writers_imports_no_encoder():
    code = ("import sys, animatediff.video.write, animatediff.video.metadata; "
            "print([m for m in ('av', 'imageio', 'cv2', 'torch', 'diffusers', 'gradio', 'modules') if m in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
