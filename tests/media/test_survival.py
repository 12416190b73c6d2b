"""Files on failing disks: every write, sync and rename fails once, as in SQLite's tests; power cuts; two writers."""
from __future__ import annotations

import errno
import subprocess
import sys
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from video_helpers import ALL, frames_in, moving, tree

from animatediff import disk
from animatediff.clip import resume
from animatediff.clip.job import Clip, run
from animatediff.errors import AnimateDiffError
from animatediff.media import metadata
from animatediff.media.write import WRITERS, ClipWriter, NameTakenError, Target, WriteError, check_free

OPERATIONS = ("open_new", "write", "sync", "rename", "sync_folder")
FRAMES = moving(3, 16, 24)


class Layer:
    """The file layer, in which the `n`-th `operation` fails. `happened`: the operations done, in order."""

    def __init__(self, monkeypatch, operation: str = "", n: int = 0):
        self.operation, self.n, self.met = operation, n, 0
        self.happened: list[tuple] = []
        self.own = {name: getattr(disk, name) for name in OPERATIONS if hasattr(disk, name)}
        for name in self.own:
            monkeypatch.setattr(disk, name, lambda *given, name=name: self.do(name, *given))

    def do(self, name, *given):
        self.count(name)
        found = self.own[name](*given)
        self.happened.append((name, *given))
        return File(found, self) if name == "open_new" else found

    def count(self, name):
        self.met += name == self.operation
        if name == self.operation and self.met == self.n:
            raise OSError(errno.EIO, "Input/output error")


class File:
    def __init__(self, file, layer):
        self.file, self.layer = file, layer

    def write(self, data):
        self.layer.count("write")
        self.layer.happened.append(("write", Path(self.file.name)))
        return self.file.write(data)

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()


def make(folder: Path, formats) -> None:
    """Write a clip of three frames over an older one of the same name, in a run that saves its state."""
    def frames(on_event, keeper):
        (folder / "a.state").write_text("to go on from")
        yield from FRAMES

    clip = Clip(3, formats, 8, lambda known: '{"new": 1}', lambda taken: Target(folder / "a.gif"))
    run(frames, clip, resume.Keeper())


@pytest.mark.parametrize("form", ALL)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_whatever_fails_no_file_is_half_and_no_state_is_lost(tmp_path, monkeypatch, form, operation):
    place = WRITERS[form].place(tmp_path / "a")
    for n in count(1):
        for path in sorted(tmp_path.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        if form != "PNG":
            place.write_bytes(b"older")
        with monkeypatch.context() as patch:
            layer = Layer(patch, operation, n)
            try:
                make(tmp_path, [form])
                failed = None
            except AnimateDiffError as error:
                failed = error
        assert not list(tmp_path.rglob(".*")), "nothing half written, no lock"
        assert (tmp_path / "a.state").exists() == (failed is not None and "cannot write here" not in str(failed))
        kept = getattr(failed, "kept", [])
        for path in kept if failed else [place]:
            whole(path, form)
        if form != "PNG" and place not in kept and failed:
            assert place.read_bytes() == b"older" or "confirm" in str(failed)
        if layer.met < n:
            assert failed is None and n > 1, "it failed at least once"
            return
        assert failed is not None and "Input/output error" in str(failed)


def whole(path: Path, form: str) -> None:
    if form == "PNG":
        for number, file in enumerate(sorted(path.glob("*.png")) if path.is_dir() else [path]):
            number = int(file.stem)
            assert np.array_equal(np.asarray(Image.open(file)), FRAMES[number])
    elif form == "TXT":
        assert path.read_text() == '{"new": 1}'
    else:
        assert frames_in(path) == 3 and metadata.read(path) == '{"new": 1}'


def test_power_may_go_at_any_moment(tmp_path, monkeypatch):
    """A file is renamed only once its contents are on the disk, and the state is removed only once all renames are."""
    layer, synced = Layer(monkeypatch), {}
    sync, rename = layer.own["sync"], layer.own["rename"]

    def note(file):
        sync(file)
        synced[Path(file.name)] = Path(file.name).read_bytes()

    def checked(hidden, path):
        assert synced.get(hidden) == hidden.read_bytes(), f"{path} has a name before the disk has it"
        rename(hidden, path)

    unlink = Path.unlink

    def removed(path, missing_ok=False):
        if path.suffix == resume.SUFFIX:
            renamed = {given[1].parent for name, *given in layer.happened if name == "rename"}
            last = max(i for i, (name, *_) in enumerate(layer.happened) if name == "rename")
            assert renamed <= {given[0] for name, *given in layer.happened[last:] if name == "sync_folder"}
            layer.happened.append(("state removed",))
        unlink(path, missing_ok=missing_ok)

    layer.own |= {"sync": note, "rename": checked}
    monkeypatch.setattr(Path, "unlink", removed)
    make(tmp_path, ALL)
    assert ("state removed",) in layer.happened and len(synced) == len(ALL) + 2


@pytest.mark.parametrize("form", [name for name in ALL if name != "TXT"])
def test_equal_runs_are_equal_bit_by_bit(tmp_path, form):
    """Small frames, with which x264 was not deterministic."""
    files = set()
    for _ in range(6):
        with ClipWriter(tmp_path / "a.gif", form, metadata="x") as clip:
            for frame in moving(9):
                clip.add(frame)
        files.add(b"".join(path.read_bytes() for path in clip.paths))
    assert len(files) == 1


def test_a_name_is_one_writers(tmp_path):
    first = ClipWriter(tmp_path / "a.gif", "GIF")
    for name in ("a.gif", "a.mp4"):
        with pytest.raises(NameTakenError, match="another run"):
            ClipWriter(tmp_path / name, "PNG")
    with pytest.raises(NameTakenError):
        check_free(tmp_path / "a.gif")
    first.add(FRAMES[0])
    first.close()
    check_free(tmp_path / "a.gif")
    with pytest.raises(NameTakenError, match="there is a clip"):
        ClipWriter(Target(f"{tmp_path}/", "a", new=True), "PNG")
    with ClipWriter(tmp_path / "a.gif", "GIF") as again:
        again.add(FRAMES[0])
    assert "a.gif" in tree(tmp_path) and not list(tmp_path.glob(".a*"))


def test_the_next_name_is_taken_where_another_run_has_one(tmp_path):
    def place(taken):
        return Target(f"{tmp_path}/", f"0000{taken + 1}-5", new=True)

    first = ClipWriter(place(0), "TXT")
    clip = Clip(1, ["TXT"], 8, lambda known: "x", place)
    assert run(lambda *_: iter(FRAMES[:1]), clip, resume.Keeper()).paths == [tmp_path / "00002-5.txt"]
    first.add(FRAMES[0])
    first.close()
    assert tree(tmp_path) == ["00001-5.txt", "00002-5.txt"]


def test_a_process_that_was_killed_leaves_its_name_to_others(tmp_path):
    code = ("import os, signal, sys; from animatediff.media.write import ClipWriter; import numpy as np\n"
            "clip = ClipWriter(sys.argv[1], ['APNG'])\n"
            "clip.add(np.zeros((8, 8, 3), np.uint8)); clip.describe('x')\n"
            "print(len(os.listdir(os.path.dirname(sys.argv[1])))); sys.stdout.flush(); os.kill(os.getpid(), 9)")
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.apng")], capture_output=True, text=True)
    assert done.stdout.strip() == "2" and len(list(tmp_path.glob(".*"))) == 2
    with ClipWriter(tmp_path / "a.apng", ["APNG"]) as clip:
        clip.add(FRAMES[0])
    assert [path.name for path in tmp_path.iterdir()] == ["a.apng"]


def test_a_disk_that_does_not_confirm_says_so_and_the_files_are_there(tmp_path, monkeypatch):
    def refuse(folder):
        raise OSError(errno.EIO, "Input/output error")

    clip = ClipWriter(tmp_path / "a.gif", "GIF")
    monkeypatch.setattr(disk, "sync_folder", refuse)
    with pytest.raises(WriteError, match="confirm.*kept:.*a.gif"), clip:
        clip.add(FRAMES[0])
    assert frames_in(tmp_path / "a.gif") == 1
