"""The command line as a user meets it: files, output and exit codes."""
from __future__ import annotations

import errno
import json
import os
import signal
import time
from pathlib import Path

import pytest
from command_line import QUICK, files, python, run  # noqa: F401
from PIL import Image
from tiny_models import write_module

from animatediff.engine import models
from animatediff.engine import pipeline as engine
from animatediff.faces.cli import main as cli
from animatediff.faces.cli import output
from animatediff.media import metadata
from animatediff.version import __version__

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

def test_a_file_is_written_and_can_be_repeated(run, tmp_path):
    code, out, err = run("render", "a red circle", *QUICK, "--out", "demo.gif")
    assert code == 0 and "Wrote demo.gif" in out and "--seed 5" in out and "'a red circle'" in out
    assert "Sampling" in err and "3 frames of 64x64, 1 UNet call, " in err and "Note:" in err
    with Image.open(tmp_path / "demo.gif") as gif:
        assert gif.n_frames == 3 and gif.size == (64, 64) and abs(gif.info["duration"] - 125) <= 5
    about = json.loads(metadata.read(tmp_path / "demo.gif"))
    assert about["animatediff"] == __version__ and about["settings"]["prompt"] == "a red circle" and about["seed"] == 5

    code, out, _ = run("render", "--from", "demo.gif", "--out", "again.gif", "--device", "cpu", "--quiet")
    assert code == 0 and (tmp_path / "again.gif").read_bytes() == (tmp_path / "demo.gif").read_bytes()

    code, out, _ = run("render", "--from", "demo.gif", "--out", "other.png", "--fps", "23.976", "--json")
    report = json.loads(out)
    assert code == 0 and report["settings"]["fps"] == 23.976 and report["settings"]["formats"] == ["PNG"]
    assert report["frames"] == 3 and [Path(p).name for p in report["written"]] == [f"0000{i}.png" for i in range(3)]
    with Image.open(report["written"][1]) as png, Image.open(tmp_path / "demo.gif") as gif:
        gif.seek(1)
        assert png.size == gif.size
    assert json.loads(metadata.read(report["written"][2]))["settings"]["fps"] == 23.976


def test_a_folder_takes_numbered_clips_and_the_seed_is_drawn(run, tmp_path):
    quick = [word if word != "5" else "-1" for word in QUICK]
    for _ in range(2):
        code, out, err = run("render", "x", *quick, "--out", "clips", "--format", "gif,png", "--request-id", "abc",
                             "--quiet")
        assert code == 0 and err == ""
    names = sorted(path.name for path in (tmp_path / "clips").iterdir())
    assert [n[:6] for n in names] == ["00001-"] * 2 + ["00002-"] * 2 and all("-abc" in n for n in names)
    seeds = {json.loads(metadata.read(p))["seed"] for p in (tmp_path / "clips").glob("*.gif")}
    assert len(seeds) == 2 and all(str(seed) in " ".join(names) for seed in seeds)


def test_info(run):
    run("render", "a blue ring", *QUICK, "--out", "demo.gif")
    code, out, _ = run("info", "demo.gif")
    assert code == 0 and "a blue ring" in out and "good.safetensors (v2) on tiny" in out
    code, out, _ = run("info", "demo.gif", "--json")
    assert json.loads(out)["metadata"]["settings"]["prompt"] == "a blue ring"


@pytest.mark.slow
def test_another_module_of_the_same_name_is_noticed(run, files, tmp_path):
    run("render", "x", *QUICK, "--out", "demo.gif")
    other = write_module(tmp_path / "mine" / "good.safetensors", seed=9)
    image = files / "image" / "tiny.safetensors"
    code, _, err = run("render", "--from", "demo.gif", "--out", "b.gif", "--checkpoint", image,
                       "--motion-module", other, models=False)
    assert code == 0 and "another motion module" in err


def test_models(run, files):
    code, out, _ = run("models")
    assert code == 0
    entry = {block.split("\n")[0]: block for block in out.replace("\n    ", "\n\t").split("\n") if block}
    assert "good.safetensors" in entry and "v2 for SD1.5, up to 32 frames" in out and "AnimateDiff-SDXL for SDXL" in out
    code, out, _ = run("models", "--folder", files / "model", "--json")
    listed = {m["name"]: m for m in json.loads(out)["models"]}
    assert listed["good.safetensors"]["usable"] and listed["good.safetensors"]["widths"] == [32] * 4
    assert not listed["cut.safetensors"]["usable"] and listed["cut.safetensors"]["problem"]
    assert "SD1.5 checkpoint" in listed["image.safetensors"]["problem"]
    code, _, err = run("models", "--folder", files / "nowhere")
    assert code == 3 and "nowhere" in err


BAD = [  # arguments after `render x`, exit code, words of the message
    (["--frames", "-1"], 2, ["--frames: ", "-1", "0 to"]),
    (["--format", "AVI"], 2, ["--format: ", "AVI", "GIF"]),
    (["--format", "Frame"], 2, ["--format: ", "for API clients only", "PNG, TXT;"]),
    (["--format", "gif,frame"], 2, ["--format: ", "'frame', which is for API clients only"]),
    (["--fps", "fast"], 2, ["--fps: ", "fast"]),
    (["--context", "0"], 2, ["--context: '0'"]),
    (["--context-schedule", "batch"], 2, ["--context-schedule: ", "Did you mean batched"]),
    (["--sampler", "Eular"], 2, ["--sampler: ", "Did you mean Euler"]),
    (["--sampler", "context_length"], 2, ["--sampler: 'context_length' is unknown"]),
    (["--context", "8", "--overlap", "8"], 2, ["--overlap: ", "a longer --context"]),
    (["--device", "cuda:99"], 3, ["--device: ", "cuda:99"]),
    (["--sampler", "LCM", "--steps", "60"], 2, ["--steps: ", "50"]),
    (["--frames", "64", "--context", "33"], 3, ["33", "32"]),
    (["--motion-module", "nothing"], 3, ["nothing", "animatediff models"]),
    (["--motion-module", "noise"], 3, [" noise: there is no such"]),
    (["--motion-module", "cut"], 3, ["cut.safetensors"]),
    (["--motion-module", "image"], 3, ["SD1.5 checkpoint"]),
    (["--motion-module", "xl"], 3, ["SDXL", "SD1.5"]),
    (["--checkpoint", "missing.safetensors"], 3, ["missing.safetensors"]),
    (["--checkpoint", "FILES/image/cut.safetensors"], 3, ["cut.safetensors"]),
    (["--checkpoint", "FILES/model/good.safetensors"], 3, ["motion module"]),
    (["--out", "clip.avi"], 2, ["clip.avi: ", ".gif"]),
    (["--out", "clip.avi", "--format", "GIF"], 2, ["clip.avi: ", ".gif"]),
    (["--out", "FILES/plain.png/clip.gif"], 4, ["plain.png"]),
    (["--from", "FILES/plain.png"], 4, ["plain.png", "settings"]),
    (["--from", "nowhere.gif"], 4, ["nowhere.gif"]),
]


@pytest.mark.parametrize("arguments, code, words", BAD, ids=lambda v: " ".join(v) if isinstance(v, list) else str(v))
def test_bad_input(run, files, tmp_path, arguments, code, words):
    given = [a.replace("FILES", str(files)) for a in arguments]
    defaults = ["--checkpoint", str(files / "image" / "tiny.safetensors"), "--motion-module", "good", *QUICK]
    got, out, err = run("render", "x", *defaults, *given, models=False)
    message = [line for line in err.splitlines() if line.startswith("animatediff: ")]
    assert got == code and out == "" and len(message) == 1
    for word in words:
        assert word in message[0]
    assert not list(tmp_path.iterdir())  # no incomplete file
    got, out, _ = run("render", "x", *defaults, *given, "--json", models=False)
    assert got == code and json.loads(out)["exit_code"] == code


@pytest.fixture
def nothing_loads(monkeypatch):
    def loaded(*a, **k):
        raise AssertionError("a model is loaded")

    monkeypatch.setattr(engine.Pipeline, "load", loaded)


@pytest.mark.parametrize("out, code, words", [
    ("clip.avi", 2, [".avi"]), ("FILES/plain.png/clip.gif", 4, ["plain.png"]), ("taken.gif", 4, ["taken.gif"]),
    ("FILES/plain.png/new/", 4, ["plain.png"]),
])
def test_a_bad_place_is_refused_before_models_are_loaded(run, files, tmp_path, nothing_loads, out, code, words):
    (tmp_path / "taken.gif").mkdir()
    got, _, err = run("render", "x", *QUICK, "--out", out.replace("FILES", str(files)))
    assert got == code and all(word in err for word in words) and "Loading" not in err
    assert [path.name for path in tmp_path.iterdir()] == ["taken.gif"]


@pytest.mark.parametrize("out", ["here.gif", "new/folder/", "new/folder/clip.gif"])
def test_a_folder_without_permission_is_refused_before_models_are_loaded(run, tmp_path, monkeypatch, nothing_loads,
                                                                         out):
    from animatediff import disk

    tried = []

    def refused(path):
        tried.append(path.parent)
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(disk, "open_new", refused)
    code, _, err = run("render", "x", *QUICK, "--out", out)
    assert code == 4 and "Permission denied" in err and tried == [tmp_path] and not list(tmp_path.iterdir())


def test_a_run_that_fails_later_makes_no_folder(run, tmp_path):
    code, _, _ = run("render", "x", *QUICK, "--out", "new/folder/", "--motion-module", "cut", models=False)
    assert code == 3 and not list(tmp_path.iterdir())


def test_models_that_a_repeated_clip_names_are_told_in_one_message(run, files, tmp_path, monkeypatch):
    run("render", "x", *QUICK, "--out", "demo.gif")
    again = ["render", "--from", "demo.gif", "--out", "again.gif"]
    code, _, err = run(*again, models=False)
    assert code == 3 and err == ("animatediff: demo.gif: was made with the checkpoint tiny.safetensors, which is not "
                                 "here. Give --checkpoint PATH\n")
    monkeypatch.setenv(models.FOLDER_VARIABLE, str(tmp_path / "nowhere"))
    code, out, err = run(*again, "--json", models=False)
    assert code == 3 and json.loads(out)["error"] == (
        "demo.gif: was made with the motion module good.safetensors and the checkpoint tiny.safetensors, which are not "
        "here. Give --motion-module PATH and --checkpoint PATH")
    code, _, err = run(*again, "--checkpoint", "other.safetensors", "--motion-module",
                       files / "model" / "good.safetensors", models=False)
    assert code == 3 and "animatediff: other.safetensors: there is no such file" in err
    assert not (tmp_path / "again.gif").exists()


def carrying(path: Path, **values) -> Path:
    """A settings file for --from."""
    path.write_text(json.dumps({"animatediff": "9.9", "settings": {"prompt": "x", **values}}))
    return path


def test_settings_of_a_repeated_clip_that_cannot_be_used(run, tmp_path, nothing_loads):
    old = carrying(tmp_path / "old.txt", sampler="Eular", context_length=32, overlap=20)
    code, _, err = run("render", "--from", old)
    assert code == 2 and f"animatediff: {old}, --sampler: 'Eular' is unknown. Did you mean Euler" in err
    code, _, err = run("render", "--from", old, "--sampler", "Euler", "--context", "16")
    assert code == 2 and f"{old}, --overlap: 20 is not less" in err and "a longer --context;" in err
    code, _, err = run("render", "--from", old, "--sampler", "Euler", "--context", "64")
    assert code == cli.UNEXPECTED and "a model is loaded" in err  # no error before that
    code, _, err = run("render", "--from", carrying(tmp_path / "new.txt", colour="red"))
    assert code == 2 and "new.txt, colour: unknown parameter" in err and "newer version" in err


@pytest.mark.parametrize("carried, written", [(["GIF", "Frame"], ["GIF"]), (["Frame"], ["GIF", "PNG"])])
def test_frame_in_a_repeated_clip_is_left_to_the_api(run, tmp_path, carried, written):
    quick = dict(frames=2, steps=1, cfg=1, size="64x64")
    code, out, _ = run("render", "--from", carrying(tmp_path / "clip.txt", formats=carried, **quick), "--json")
    report = json.loads(out)
    assert code == 0 and report["settings"]["formats"] == written
    assert sorted({Path(path).suffix[1:].upper() for path in report["written"]}) == written


def test_one_is_not_many(run):
    # With one frame of 64x64, the tiny UNet's deepest norms have a single value, which torch refuses.
    code, out, err = run("render", "x", *QUICK, "--frames", "1", "--size", "128x128", "--format", "PNG")
    assert code == 0 and "1 frame of 128x128, 1 UNet call, " in err and "Wrote 1 frame in " in out


@pytest.mark.parametrize("words, what", [
    (["render", "x", "--jsonsense"], "--jsonsense"), (["models", "--folder"], "--folder"), (["draw"], "draw"),
    (["info", "a.gif", "b.gif"], "b.gif"),
])
@pytest.mark.parametrize("json_flag", ["--json", "--js", ""])
def test_misused_flags_and_commands(run, words, what, json_flag):
    place = "animatediff" if words == ["draw"] else f"animatediff {words[0]}"
    code, out, err = run(words[0], *filter(None, [json_flag]), *words[1:], models=False)
    [error] = [line for line in err.splitlines() if line.startswith("animatediff: ")]
    assert code == 2 and what in error and f"See {place} --help" in error and f"usage: {place} " in err
    if json_flag:
        assert json.loads(out) == {"error": error.removeprefix("animatediff: "), "exit_code": 2, "written": []}
    else:
        assert out == ""


def test_help_offers_what_the_command_line_has(capsys):
    with pytest.raises(SystemExit):
        cli.main(["render", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "Frame:" not in text and "TXT, Frame" not in text and "PNG: every frame. TXT: the settings. (one" in text
    assert "--negative TEXT" in text and "travels back" not in text


def test_a_prompt_is_needed(run):
    code, _, err = run("render")
    assert code == 2 and "prompt is empty" in err
    code, _, err = run("info", "nowhere.gif")
    assert code == 4 and "nowhere.gif" in err


def test_a_full_disk_loses_no_finished_file(run, tmp_path, monkeypatch):
    from animatediff.media.write import registry

    def full(self):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(registry.WRITERS["GIF"], "finish", full)
    code, out, err = run("render", "x", *QUICK, "--out", "demo.gif", "--format", "GIF,PNG", "--json")
    assert code == 4 and "No space left" in err and len(list((tmp_path / "demo").glob("*.png"))) == 3
    assert len(json.loads(out)["written"]) == 3
    assert not list(tmp_path.glob("*.gif")) and not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("done, said", [(0, "nothing is kept"), (1, "1 finished frame is kept"),
                                        (2, "2 finished frames are kept")])
def test_ctrl_c_while_decoding_keeps_the_frames(run, tmp_path, monkeypatch, done, said):
    picture, seen = engine.vae.decode, []

    def interrupted(*given, **options):
        seen.append(given)
        if len(seen) > done:
            raise KeyboardInterrupt
        return picture(*given, **options)

    monkeypatch.setattr(engine.vae, "decode", interrupted)
    code, out, err = run("render", "x", *QUICK, "--out", "demo.gif", "--format", "GIF,PNG", "--json")
    assert code == 130 and said in err
    assert json.loads(out)["interrupted"] and len(list((tmp_path / "demo").glob("*.png"))) == done
    assert (tmp_path / "demo.gif").exists() == (done > 0)
    if done:
        with Image.open(tmp_path / "demo.gif") as gif:
            assert gif.n_frames == done


def test_ctrl_c_while_sampling(run, tmp_path, monkeypatch):
    held = []

    def interrupted(self, event):
        raise KeyboardInterrupt

    load = engine.Pipeline.load
    monkeypatch.setattr(engine.Pipeline, "load", lambda *a, **k: held.append(load(*a, **k)) or held[0])
    monkeypatch.setattr(output.Progress, "__call__", interrupted)
    code, _, err = run("render", "x", *QUICK, "--out", "demo.gif")
    assert code == 130 and "nothing is kept" in err and not list(tmp_path.iterdir())
    assert not any(m._forward_hooks for m in held[0].unet.modules())


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_a_real_signal(files, tmp_path):
    process = python("-m", "animatediff", "render", "x", "--steps", "900", "--device", "cpu", "--checkpoint",
                     str(files / "image" / "tiny.safetensors"),
                     "--motion-module", str(files / "model" / "good.safetensors"), "--out", "demo.gif", cwd=tmp_path,
                     # a shell that started the tests in the background had them ignore the signal
                     preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    try:
        said = ""
        while "1/900" not in said and process.poll() is None:
            said += process.stderr.read(1)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130 and "Interrupted" in err and "Traceback" not in err
    assert not list(tmp_path.iterdir())


def test_help_and_bad_flags_need_no_torch():
    program = ("import sys, animatediff; from animatediff.faces.cli import main as cli\n"
               "for words in (['--help'], ['render', '--help'], ['render', 'x', '--nonsense']):\n"
               "    try: cli.main(words)\n"
               "    except SystemExit: pass\n"
               "cli.main(['render', 'x', '--fps', 'abc'])\n"
               "sys.exit(bool({'torch', 'diffusers', 'numpy'} & set(sys.modules)))")
    began = time.perf_counter()
    process = python("-c", program)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    for flag in ("--negative", "--out", "--format", "--frames", "--fps", "--loop-number", "--closed-loop", "--context",
                 "--stride", "--overlap", "--seed", "--steps", "--cfg", "--sampler", "--size", "--motion-module",
                 "--checkpoint", "--device", "--dtype", "--from", "--json"):
        assert flag in out
    assert time.perf_counter() - began < 20  # with a margin for a loaded machine; 0.2 s on an idle one


def test_errors_that_nobody_foresaw(run, monkeypatch):
    def broken(*a, **k):
        raise ZeroDivisionError("one over nothing")

    monkeypatch.setattr(engine.Pipeline, "load", broken)
    code, _, err = run("render", "x", *QUICK)
    assert code == cli.UNEXPECTED and "one over nothing" in err
    monkeypatch.setenv(cli.DEBUG_VARIABLE, "1")
    with pytest.raises(ZeroDivisionError):
        run("render", "x", *QUICK)


def test_a_run_interpolates_its_clip(run, tmp_path):
    code, _, err = run("render", "x", *QUICK, "--interp", "blend", "--interp-x", "3", "--format", "GIF,PNG", "--out",
                       "a.gif")
    assert code == 0 and "3 frames to 9, 24 fps, blend" in err
    with Image.open("a.gif") as gif:
        assert gif.n_frames == 9 == len(list((tmp_path / "a").glob("*.png")))
    about = json.loads(metadata.read("a.gif"))
    assert about["interpolation"][0]["fps"] == 24 and about["settings"]["interp_x"] == 3
    assert "18 frames at 48 fps" in run("interpolate", "a.gif", "--method", "blend", "--out", "b.gif")[1]
