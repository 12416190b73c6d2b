"""Unusual file names, closed or full output, repeated Ctrl-C, and two runs at once."""
from __future__ import annotations

import io
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import QUICK, files, python, run  # noqa: F401
from PIL import Image

from animatediff.clip import resume
from animatediff.faces.cli import main as cli
from animatediff.faces.cli import output
from animatediff.faces.cli.streams import Stream
from animatediff.media import metadata
from animatediff.media.write import ClipWriter

pytestmark = [pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")]
POSIX = pytest.mark.skipif(os.name != "posix", reason="names and files of POSIX systems")


@POSIX
@pytest.mark.parametrize("name", ["12:30.mp4", "\udcff.mp4"])
def test_any_name_that_the_system_takes(run, tmp_path, name):
    code, out, err = run("render", "x", *QUICK, f"--out={name}")
    assert code == 0 and os.listdir(os.fsencode(tmp_path)) == [os.fsencode(name)], err
    assert '"seed": 5' in metadata.read(tmp_path / name)


@pytest.mark.parametrize("name", ["clip.avif", "clip.jxl", "clip.ts", "clip.gifv", "clip.HEIC", "clip.avi", "clip.m2ts",
                                  "clip.mp3", "clip.psd", "clip.zip", "clip.json", "clip.safetensors", "new/clip.jpeg"])
@pytest.mark.parametrize("more", [["--format", "GIF"], ["--resume"]], ids=str)
def test_what_cannot_be_written_is_refused_before_models_are_loaded(run, tmp_path, monkeypatch, name, more):
    from animatediff.engine.pipeline import Pipeline

    monkeypatch.setattr(Pipeline, "load", lambda *_, **__: pytest.fail("models were loaded"))
    code, out, err = run("render", "x", *QUICK, "--out", name, *more)
    assert code == 2 and f"{Path(name).suffix} files cannot be written" in err and ".webm" in err and out == ""
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("command", "source", "out"), [
    (("render", "x", "--video"), "clip.gif", "clip.mp4"), (("render", "x", "--init"), "clip", "clip.gif"),
    (("render", "x", "--init"), "clip/00000.png", "clip.mp4"),
    (("render", "x", "--last-frame"), "link.gif", "clip.gif"),
    (("render", "x", "--audio"), "clip.gif", "./clip.gif"), (("render", "x", "--mask"), "clip.gif", "clip.mp4"),
    (("render", "x", "--motion-mask"), "clip.gif", "clip.gif"), (("refine", "--scale", "2"), "clip.gif", "clip.gif"),
    (("refine", "--scale", "2"), "clip", "clip.png"), (("interpolate",), "clip.gif", "../{folder}/clip.gif"),
    (("interpolate",), "clip", "clip.mp4")])
def test_a_clip_does_not_replace_what_it_is_made_from(run, tmp_path, command, source, out):
    with ClipWriter(tmp_path / "clip.gif", ["GIF", "PNG"]) as clip:
        for grey in (40, 80, 120):
            clip.add(np.full((64, 64, 3), grey, np.uint8))
    (tmp_path / "link.gif").symlink_to("clip.gif")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    out = out.format(folder=tmp_path.name)
    code, _, err = run(*command, source, "--out", out, "--format", "GIF,MP4,PNG", models=False)
    assert code == 4 and f"{Path(source).name}: is read by this run, and its result would replace it" in err
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name, said", [(".gif", "ending without a name"), ("new/.avif", "ending without a name"),
                                        ("clip.gif ", "blank or a dot"), ("clip.mp4.", "blank or a dot"),
                                        ("clip.tar.gz", "files cannot be written")])
def test_names_that_are_slips_make_no_folder(run, tmp_path, name, said):
    code, _, err = run("render", "x", *QUICK, "--out", name, models=False)
    assert code == 2 and said in err and not list(tmp_path.iterdir())


def test_no_name_is_this_folder(run, tmp_path):
    assert run("render", "x", *QUICK, "--out", "", "--format", "TXT")[0] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["00001-5.txt"]


@pytest.mark.slow
def test_a_folder_of_such_a_name(run, tmp_path):
    (tmp_path / "old.avi").mkdir()
    for name in ("clips.avif/", "old.avi", "clips.v2"):
        assert run("render", "x", *QUICK, "--out", name, "--format", "TXT")[0] == 0
        assert (tmp_path / name / "00001-5.txt").is_file()


def test_a_run_with_a_colon_in_its_name_goes_on(run, tmp_path, monkeypatch):
    class Cut(output.Progress):
        def __call__(self, event):
            if event.kind == "step" and event.index == 3:
                raise KeyboardInterrupt
            super().__call__(event)

    with monkeypatch.context() as patch:
        patch.setattr(output, "Progress", Cut)
        assert run("render", "x", *QUICK, "--steps", "4", "--out", "12:30.mp4")[0] == 130
    assert [path.name for path in tmp_path.iterdir()] == ["12:30.state"]
    assert run("render", "--resume", "--out", "12:30.mp4", models=False)[0] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["12:30.mp4"]


def closed_pipe() -> io.TextIOWrapper:
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "w")


def full_disk() -> io.TextIOWrapper:
    return open("/dev/full", "w")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
@pytest.mark.parametrize("opened", [closed_pipe, full_disk])
@pytest.mark.parametrize("streams", [["stdout"], ["stderr"], ["stdout", "stderr"]], ids=str)
def test_output_that_cannot_be_written_does_nothing_to_the_clip(files, tmp_path, monkeypatch, opened, streams):
    def code(*words):
        for name in streams:
            monkeypatch.setattr(sys, name, opened())
        return cli.main(list(map(str, words)))

    models = ["--checkpoint", files / "image" / "tiny.safetensors", "--motion-module",
              files / "model" / "good.safetensors"]
    assert code("render", "x", *QUICK, *models, "--out", tmp_path / "a.gif") == 0
    assert Image.open(tmp_path / "a.gif").n_frames == 3
    lost = opened is full_disk and "stdout" in streams
    assert code("info", tmp_path / "a.gif") == (4 if lost else 0), "its output is all that it is for"
    assert code("info", tmp_path / "none.gif") == 4


def test_letters_that_a_terminal_does_not_have():
    buffer = io.BytesIO()
    stream = Stream(io.TextIOWrapper(buffer, "ascii"))
    print("Loading … 赤", file=stream, flush=True)
    assert buffer.getvalue() == b"Loading \\u2026 \\u8d64\n" and stream.error is None


@POSIX
@pytest.mark.slow
def test_ctrl_c_again_and_again(files, tmp_path):
    process = python("-m", "animatediff", "render", "x", "--steps", "900", "--device", "cpu", "--checkpoint",
                     str(files / "image" / "tiny.safetensors"), "--out", "a.gif",
                     "--motion-module", str(files / "model" / "good.safetensors"), cwd=tmp_path,
                     preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    said = ""
    try:
        while "2/900" not in said and process.poll() is None:
            said += process.stderr.read(1)
        for _ in range(200):
            process.send_signal(signal.SIGINT)
            if process.poll() is not None:
                break
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130 and "Interrupted" in err and "Traceback" not in err and "Exception" not in err
    assert [path.name for path in tmp_path.iterdir()] == ["a.state"]


def test_a_second_run_of_a_name_is_refused_and_numbers_are_passed_over(run, tmp_path):
    (tmp_path / "clips").mkdir()
    living = [ClipWriter(tmp_path / "a.gif", "GIF"), ClipWriter(tmp_path / "clips" / "00001-5.gif", "GIF")]
    (tmp_path / "a.state").write_bytes(b"of the living run")
    before = sorted(tmp_path.rglob("*"))
    code, _, err = run("render", "x", *QUICK, "--out", "a.gif")
    assert code == 4 and "another run is writing it" in err
    code, _, err = run("render", "x", *QUICK, "--out", "clips/")
    assert code == 0 and (tmp_path / "clips" / "00002-5.gif").is_file()
    assert set(before) < set(tmp_path.rglob("*")) and (tmp_path / "a.state").read_bytes() == b"of the living run"
    for writer in living:
        with pytest.raises(Exception, match="no frames"):
            writer.close()


def test_going_on_beside_the_living_run_is_refused(run, tmp_path, monkeypatch):
    """The running run's state, incomplete files and finished files stay unchanged."""
    seen = []

    class Meanwhile(output.Progress):
        def __call__(self, event):
            if event.kind == "step" and event.index == 3 and not seen:
                seen.append(cli.main(["render", "--resume", "--out", "a.gif"]))
                seen.append(resume.load(tmp_path / "a.state")["step"])
            super().__call__(event)

    monkeypatch.setattr(output, "Progress", Meanwhile)
    code, _, err = run("render", "x", *QUICK, "--steps", "4", "--out", "a.gif", "--format", "GIF,PNG")
    assert seen[0] == 4 and seen[1] >= 2 and "another run is writing it" in err
    assert code == 0 and Image.open(tmp_path / "a.gif").n_frames == 3 and len(list(tmp_path.glob("a/*.png"))) == 3
