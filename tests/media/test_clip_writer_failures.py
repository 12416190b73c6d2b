"""ClipWriter: the files that remain after a failure."""
from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from video_helpers import ALL, NEEDS_VIDEO, SETTINGS, VIDEOS, frames_in, moving, noise, tree

from animatediff import disk
from animatediff.media import metadata, pyav
from animatediff.media.write import WRITERS, ClipWriter, WriteError, base, clip_writer, encode


class FullDisk:
    """A file on a disk with room for `room` bytes."""

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
    opened = disk.open_new
    ending = "." + WRITERS[victim].extension

    def limited(path):
        if victim == "PNG" and room and path.name.startswith(".00000"):
            return opened(path)  # the first frame fits
        mine = path.name.removesuffix(".part").rsplit(".", 1)[0].endswith(ending)
        return FullDisk(opened(path), room if victim != "PNG" else 100) if mine else opened(path)

    monkeypatch.setattr(disk, "open_new", limited)
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


def test_behind_a_frame_that_did_not_fit_none_is_written(tmp_path, monkeypatch):
    """Even though several frames are in progress, and the next ones would fit."""
    opened = disk.open_new
    monkeypatch.setattr(clip_writer, "CORES", 4)
    monkeypatch.setattr(disk, "open_new", lambda path: FullDisk(opened(path), 100) if path.name.startswith(".00002")
                        else opened(path))
    clip, frames = ClipWriter(tmp_path / "a.gif", ["PNG", "APNG"]), noise(6)
    with pytest.raises(WriteError, match="No space left") as caught, clip:
        for frame in frames:
            clip.add(frame)
    assert tree(tmp_path) == ["a.apng", "a/00000.png", "a/00001.png"] and len(caught.value.kept) == 3
    assert frames_in(tmp_path / "a.apng") == 6
    with Image.open(tmp_path / "a/00001.png") as image:
        assert np.array_equal(np.asarray(image), frames[1])


def test_when_nothing_is_left_the_run_stops(tmp_path, monkeypatch):
    clip = ClipWriter(tmp_path / "a.gif", "APNG")
    monkeypatch.setattr(disk, "open_new", lambda path: FullDisk(open(path, "x+b"), 50_000))
    with pytest.raises(WriteError, match="kept: nothing"), clip:
        for count, frame in enumerate(noise(30)):
            clip.add(frame)
    assert count < 29 and tree(tmp_path) == []


SMALL_DISK = """
import resource, sys
import numpy as np
from animatediff.media.write import ClipWriter, WriteError
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
    """The kernel refuses bytes from 60 001 on in any file: encoders fail, single frames and the text do not."""
    said = run_on(tmp_path, 60000)
    lost, kept = said.split()[:2]
    assert set(lost.split(",")) == {"MP4", "WEBM", "APNG"} and kept == "17"
    assert "File too large" in said
    assert tree(tmp_path) == ["a.txt"] + [f"a/{i:05d}.png" for i in range(16)]


@NEEDS_VIDEO
def test_a_real_full_disk(tmp_path):
    """A file system of 300 kB, on machines that can mount one."""
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
    assert 3 <= clip.count <= 3 + clip_writer.CORES and clip.notes == []
    assert len(clip.paths) == len(ALL) - 1 + clip.count
    assert all(frames_in(path) == clip.count for path in clip.paths if path.suffix not in (".txt", ".png"))


@pytest.mark.skipif(threading.current_thread() is not threading.main_thread() or os.name != "posix",
                    reason="signals reach the main thread")
def test_ctrl_c_while_a_frame_is_handed_out_waits_until_all_formats_have_it(tmp_path, monkeypatch):
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        pytest.skip("this process ignores Ctrl-C, as one in a shell's background does")
    handed = []

    class Interrupted(ThreadPoolExecutor):
        def submit(self, work, *given):
            if "ready" in work.__name__:  # a format's job
                handed.append(given)
                if len(handed) == 2 * len(ALL) + 2:  # the third frame, the second format
                    os.kill(os.getpid(), signal.SIGINT)
            return super().submit(work, *given)

    monkeypatch.setattr(clip_writer, "ThreadPoolExecutor", Interrupted)
    clip = ClipWriter(tmp_path / "a.gif", ALL, metadata=SETTINGS)
    with pytest.raises(KeyboardInterrupt), clip:
        for frame in moving(6):
            clip.add(frame)
    assert clip.count == 3 and clip.notes == []
    assert all(frames_in(path) == 3 for path in clip.paths if path.suffix not in (".txt", ".png"))


@pytest.mark.parametrize("victim", ALL)
def test_torn_frames_do_not_reach_a_file(tmp_path, monkeypatch, victim):
    """An exception in the middle of a frame, as from a host that kills its thread: whole frames or no file."""
    add = WRITERS[victim].add

    def torn(self, frame):
        add(self, frame)
        if self.count == 3:
            if isinstance(self, base.StreamWriter) and self.part.hidden.exists():
                self.part.file.write(b"half a frame")
            raise SystemExit

    here = threading.local()  # a writer's frames are added in its own thread

    def torn_inside(self, frame):
        here.count = self.count
        add(self, frame)

    def video_frame(pixels, index, fps):
        if getattr(here, "count", 0) == 2:
            raise SystemExit
        return pyav.video_frame(pixels, index, fps)

    monkeypatch.setattr(encode, "video_frame", video_frame)
    monkeypatch.setattr(WRITERS[victim], "add", torn_inside if victim in VIDEOS else torn)
    clip = ClipWriter(tmp_path / "a.gif", ALL, metadata=SETTINGS)
    with pytest.raises(SystemExit), clip:
        for frame in moving(6):
            clip.add(frame)
    lost = victim in VIDEOS
    assert [note.split()[0] for note in clip.notes] == ([victim] if lost else [])
    for path in clip.paths:
        assert metadata.read(path) == SETTINGS
        if path.suffix not in (".txt", ".png"):
            torn_file = path == WRITERS[victim].place(tmp_path / "a")
            assert frames_in(path) in ((2, 3) if torn_file else range(3, clip.count + 1))
    assert not list(tmp_path.rglob(".*"))


@NEEDS_VIDEO
def test_an_encoder_that_crashes(tmp_path, monkeypatch):
    add = WRITERS["MP4"].add

    def crash(self, frame):
        if self.count == 2:
            raise RuntimeError("encoder fell over")
        add(self, frame)

    monkeypatch.setattr(WRITERS["MP4"], "add", crash)
    with pytest.raises(WriteError, match="MP4 .*encoder fell over") as caught:
        with ClipWriter(tmp_path / "a.gif", ["MP4", "GIF"]) as clip:
            for frame in moving(6):
                clip.add(frame)
    assert caught.value.kept == [tmp_path / "a.gif"] and frames_in(tmp_path / "a.gif") == 6
    assert tree(tmp_path) == ["a.gif"]
