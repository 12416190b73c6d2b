"""Runs that were interrupted or killed continue and give the same clip, bit for bit."""
from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import files, python, run  # noqa: F401
from PIL import Image
from videos import write_video

from animatediff import sampler_table
from animatediff.clip import resume
from animatediff.errors import MediaError, SettingsError

pytestmark = [pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
              pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")]
HERE = Path(__file__).parent
ASKED = ["--frames", "6", "--context", "4", "--steps", "6", "--cfg", "1", "--size", "64x64", "--device", "cpu",
         "--sampler", "Euler a", "--format", "GIF,PNG"]


@pytest.fixture(scope="module")
def killed(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("killed")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parents[1])}
    done = subprocess.run([sys.executable, str(HERE / "killed_runs.py"), str(tiny.checkpoint),
                           str(tiny.module), str(folder)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", [*sampler_table.SAMPLERS, "every 2", "repair", "decoding", "FreeInit",
                                  "FreeInit's beginning", "draft", "draft, FreeInit", "draft, repair"])
@pytest.mark.slow
def test_killed_run_continues_bit_for_bit(killed, name):
    case = killed[name]
    assert case["ended"] == signal.SIGKILL and case["equal"]
    expected = {"every 2": ("sampling", 2), "repair": ("seam repair", 0), "decoding": ("decoding", 0),
                "FreeInit": ("FreeInit iteration 2", 2), "FreeInit's beginning": ("FreeInit iteration 2", 0),
                "draft": ("sampling", 7), "draft, FreeInit": ("FreeInit iteration 2", 7),  # the ninth step reuses
                "draft, repair": ("seam repair", 0)}
    assert (case["stage"], case["step"]) == expected.get(name, ("sampling", 2))
    assert case["calls"] == case["planned"] < case["all"]
    if name == "decoding":
        assert case["calls"] == 0, "the latents were kept"


@pytest.mark.slow
def test_full_disk_does_not_stop_the_run(killed):
    assert killed["disk full"] == {"ended": 0, "left": []}


def command(files, *arguments):
    return ["-m", "animatediff", "render", "x", *ASKED, *arguments,
            "--checkpoint", str(files / "image" / "tiny.safetensors"),
            "--motion-module", str(files / "model" / "good.safetensors")]


def kill_when(process, there):
    until = time.time() + 120
    while not there() and process.poll() is None and time.time() < until:
        time.sleep(0.002)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.parametrize("when", ["sampling", "decoding"])
def test_killed_run_continues_on_the_command_line(files, tmp_path, when):
    """All processes have one thread, because more threads would sum in another order."""
    def ended(*arguments):
        process = python(*command(files, *arguments), cwd=tmp_path)
        out, err = process.communicate()
        assert process.returncode == 0, err
        return out, err

    there = {"sampling": tmp_path / "a.state", "decoding": tmp_path / "a" / "00000.png"}[when]
    ended("--seed", "3", "--out", "whole.gif")
    assert not (tmp_path / "whole.state").exists()
    kill_when(python(*command(files, "--seed", "3", "--out", "a.gif"), cwd=tmp_path), there.exists)
    # A killed process may leave such a file of its writer.
    (tmp_path / ".a.gif.12345678.part").write_bytes(b"half a file")
    out, err = ended("--resume", "--out", "a.gif")
    assert "Continuing after" in err and "Wrote a.gif" in out
    assert (tmp_path / "a.gif").read_bytes() == (tmp_path / "whole.gif").read_bytes()
    for i in range(6):
        assert (tmp_path / f"a/{i:05d}.png").read_bytes() == (tmp_path / f"whole/{i:05d}.png").read_bytes()
    assert not list(tmp_path.glob(".*")) and not (tmp_path / "a.state").exists()


def interrupted(run, *words):
    """Run a command that is interrupted after its fourth step, and return its exit code and stderr."""
    from animatediff.engine.pipeline import Pipeline

    whole = Pipeline.render

    def cut(self, settings, on_event, keeper):
        def stopping(event):
            if event.kind == "step" and event.index == 5:
                raise KeyboardInterrupt
            on_event(event)

        return whole(self, settings, stopping, keeper)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pipeline, "render", cut)
        code, _, err = run(*words)
    return code, err


@pytest.fixture
def begun(run, tmp_path):
    """The state of an interrupted run with a random seed."""
    code, err = interrupted(run, "render", "x", *ASKED, "--out", "clips/")
    assert code == 130 and "--resume" in err
    [state] = (tmp_path / "clips").glob("*.state")
    return state


SOURCE = ["--video", "walk.mp4", "--video-start", "0.5", "--video-every", "2", "--mask", "left.png", "--frames", "0",
          "--context", "4", "--denoising-strength", "0.9", "--denoising-strength-frames", "0.5, 0.7, 0.8, 0.9, 1",
          "--steps", "8", "--seed", "3", "--format", "MP4,PNG"]


@pytest.fixture
def source(tmp_path):
    """walk.mp4: 16 frames at 12 fps with sound, of which SOURCE takes 5; left.png: a mask."""
    random = np.random.default_rng(0)
    write_video(tmp_path / "walk.mp4", list(random.integers(0, 256, (16, 64, 64, 3), np.uint8)), 12, sound=True)
    Image.fromarray(np.uint8([[255, 0]])).resize((64, 64), Image.Resampling.NEAREST).save(tmp_path / "left.png")


def same_files(folder, one, other):
    assert (folder / f"{one}.mp4").read_bytes() == (folder / f"{other}.mp4").read_bytes()
    for i in range(5):
        assert (folder / f"{one}/{i:05d}.png").read_bytes() == (folder / f"{other}/{i:05d}.png").read_bytes()
    assert not (folder / f"{one}/00005.png").exists()


@pytest.mark.slow
def test_interrupted_run_with_a_source_video_continues_bit_for_bit(run, source, tmp_path):
    asked = ["render", "x", *ASKED, *SOURCE]
    assert run(*asked, "--out", "whole.mp4")[0] == 0
    code, err = interrupted(run, *asked, "--out", "a.mp4")
    assert code == 130 and "--resume" in err
    code, out, err = run("render", "--resume", "--out", "a.mp4", models=False)
    assert code == 0 and "Continuing after 4 steps" in err, err
    same_files(tmp_path, "a", "whole")


def test_resume_refuses_another_source_or_mask(run, source, tmp_path):
    assert interrupted(run, "render", "x", *ASKED, *SOURCE, "--out", "a.mp4")[0] == 130
    mask = (tmp_path / "left.png").read_bytes()
    Image.new("L", (64, 64), 255).save(tmp_path / "left.png")
    code, _, err = run("render", "--resume", "--out", "a.mp4", models=False)
    assert code == 2 and "mask is another" in err.lower(), err
    (tmp_path / "left.png").write_bytes(mask)
    write_video(tmp_path / "walk.mp4", [np.full((64, 64, 3), 9 * i, np.uint8) for i in range(16)], 12, sound=True)
    code, _, err = run("render", "--resume", "--out", "a.mp4", models=False)
    assert code == 2 and "source video is another" in err.lower(), err


@pytest.mark.slow
@pytest.mark.parametrize("when", ["sampling", "decoding"])
def test_killed_run_with_a_source_video_continues_bit_for_bit(files, source, tmp_path, when):
    def ended(*arguments):
        process = python(*command(files, *SOURCE, *arguments), cwd=tmp_path)
        _, err = process.communicate()
        assert process.returncode == 0, err
        return err

    ended("--out", "whole.mp4")
    there = {"sampling": tmp_path / "a.state", "decoding": tmp_path / "a" / "00000.png"}[when]
    kill_when(python(*command(files, *SOURCE, "--out", "a.mp4"), cwd=tmp_path), there.exists)
    assert "Continuing after" in ended("--resume", "--out", "a.mp4")
    same_files(tmp_path, "a", "whole")
    assert not list(tmp_path.glob(".*")) and not (tmp_path / "a.state").exists()


def test_run_continues_after_ctrl_c_without_its_prompt(run, begun, tmp_path):
    code, out, err = run("render", "--resume", "--out", "clips/", "--json", models=False)
    told = json.loads(out)
    assert code == 0 and "4 steps of sampling" in err and told["frames"] == 6
    assert f"clips/{begun.stem}.gif" in told["written"] and begun.stem == f"00001-{told['settings']['seed']}"
    assert not begun.exists()


OTHER_SETTINGS = [
    (["y"], "prompt is 'y', was 'x'"), (["--steps", "7"], "steps is 7, was 6"),
    (["--sampler", "Heun"], "sampler is 'Heun'"),
    (["--dtype", "bf16"], "precision is bfloat16, was float32"), (["--seed", "1"], "seed is 1, was "),
    (["--motion-module", "other.safetensors"],
     "the motion module is another (other.safetensors, was good.safetensors)"),
]


@pytest.mark.slow
def test_other_settings_are_refused(run, files, begun):
    from safetensors.torch import load_file, save_file

    other = {name: value * 1.01 for name, value in load_file(files / "model" / "good.safetensors").items()}
    save_file(other, files / "model" / "other.safetensors")
    before = begun.read_bytes()
    for words, said in OTHER_SETTINGS:
        code, _, err = run("render", *words, "--resume", "--out", "clips/", models=False)
        assert code == 2 and said in err and "without" not in err and "start anew" in err
        assert begun.read_bytes() == before
    (files / "model" / "other.safetensors").unlink()


@pytest.mark.slow
def test_other_version_is_refused(run, begun, monkeypatch):
    from animatediff.clip import provenance

    monkeypatch.setattr(provenance, "__version__", "99")
    code, _, err = run("render", "--resume", "--out", "clips/", models=False)
    assert code == 2 and "animatediff is 99, was " in err


def test_damaged_state_is_refused(run, begun):
    begun.write_bytes(begun.read_bytes()[:500])
    code, _, err = run("render", "--resume", "--out", "clips/", models=False)
    assert code == 4 and begun.name in err and "Delete it" in err


def test_state_with_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"format": 1, "about": Evil()}, tmp_path / "a.state")
    with pytest.raises(MediaError):
        resume.load(tmp_path / "a.state")
    assert not (tmp_path / "ran").exists()


def test_resume_without_a_state(run):
    code, _, err = run("render", "--resume", "--out", "a.gif", models=False)
    assert code == 2 and "no run here" in err
    code, out, err = run("render", "x", *ASKED, "--steps", "1", "--resume", "--out", "a.gif")
    assert code == 0 and "a new one begins" in err and "Wrote a.gif" in out
    code, _, err = run("render", "x", "--save-state", "-1")
    assert code == 2 and "--save-state" in err


@pytest.mark.slow
def test_save_state_0_keeps_no_state(run, tmp_path, monkeypatch):
    monkeypatch.setattr(resume.Keeper, "save", lambda *_: pytest.fail("saved"))
    assert run("render", "x", *ASKED, "--steps", "3", "--save-state", "0", "--out", "a.gif")[0] == 0


def test_content_hash_depends_on_the_whole_file(tmp_path):
    path, size = tmp_path / "model", 200_000
    path.write_bytes(bytes(size))
    digest = resume.content(path)
    for at in (0, size // 3, size - 1):
        data = bytearray(size)
        data[at] = 1
        path.write_bytes(data)
        assert resume.content(path) != digest
    with pytest.raises(SettingsError, match="the checkpoint is another"):
        about = {"checkpoint": {"name": "a", "content": "1"}}
        resume.refuse_differences({"about": about}, {"checkpoint": {"name": "b", "content": "2"}}, path)
