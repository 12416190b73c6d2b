"""`animatediff refine`: the written files are read by Pillow and PyAV."""
from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from command_line import QUICK, files, python, run  # noqa: F401 - fixtures
from PIL import Image

from animatediff.clip import resume
from animatediff.engine.pipeline import Pipeline
from animatediff.media import metadata, read
from animatediff.media.write import ClipWriter

SETTINGS = {"prompt": "a cat", "negative": "a dog", "steps": 2, "seed": 5, "cfg": 1.0, "context_length": 4,
            "motion_module": "good.safetensors", "checkpoint": "tiny.safetensors", "sampler": "Euler a"}


@pytest.fixture
def models(files):
    return ["--checkpoint", str(files / "image" / "tiny.safetensors"), "--device", "cpu", "--json", "--quiet"]


@pytest.fixture
def no_models(monkeypatch):
    def load(*args, **more):
        raise AssertionError("an image model is loaded")

    monkeypatch.setattr(Pipeline, "load", load)


def frames(count=3, side=32):
    """A square that moves over a smooth background."""
    ground = np.indices((side, side)).sum(0)[..., None] * np.array([3, 2, 1]) % 200
    pictures = []
    for i in range(count):
        frame = ground.astype(np.uint8)
        frame[8:20, 4 + 2 * i : 16 + 2 * i] = (250, 20, 60)
        pictures.append(frame)
    return pictures


def clip(path, pictures=None, fps=8.0, text=None, about=None, loop=0, **settings):
    """A file with our settings, or with another text."""
    made = {"animatediff": "0", "settings": {**SETTINGS, "fps": fps, "loop_number": loop, **settings}, **(about or {})}
    path = Path(path)
    with ClipWriter(path, path.suffix[1:] or "PNG", fps, loop, json.dumps(made) if text is None else text) as writer:
        for frame in frames() if pictures is None else pictures:
            writer.add(frame)
    return path


def shown(path):
    return [np.asarray(picture) for picture in read.pictures(path)]


def refined(run, *arguments):
    code, out, err = run("refine", *arguments)
    assert code == 0, err
    return json.loads(out)


SLOW = pytest.mark.slow  # a quicker test covers the same


@pytest.mark.parametrize("ending", ["gif", "mp4", *(pytest.param(name, marks=SLOW) for name in
                                                    ("png", "webm", "webp", "apng"))])
def test_settings_come_from_the_file(run, models, tmp_path, ending):
    source = clip(tmp_path / f"a.{ending}", fps=12.5, loop=2)
    source = source.with_suffix("") if ending == "png" else source
    told = refined(run, source, "--out", f"b.{ending}", *models)
    made = told["metadata"]["refined"][0]
    kept = {name: value for name, value in SETTINGS.items() if name not in ("checkpoint", "motion_module")}
    assert {name: made["settings"][name] for name in kept} == kept
    assert made["settings"]["denoising_strength"] == 0.4 and made["settings"]["size"] == "64x64"
    assert made["settings"]["fps"] == told["fps"] == 12.5 and made["settings"]["loop_number"] == 2
    found = shown(Path("b") if ending == "png" else f"b.{ending}")
    assert len(found) == told["frames"] == 3 and found[0].shape == (64, 64, 3)
    assert told["metadata"]["settings"]["prompt"] == "a cat" and told["metadata"]["settings"]["fps"] == 12.5


@pytest.mark.slow
def test_what_is_given_overrides(run, models):
    clip("a.apng")
    told = refined(run, "a.apng", "--scale", "1", "--prompt", "a bird", "--steps", "4", "--denoising-strength", "0.9",
                   "--seed", "9", "--sampler", "DDIM", "--fps", "4", "--format", "WEBP,PNG", "--out", "x/", *models)
    made = told["metadata"]["refined"][0]["settings"]
    assert (made["prompt"], made["steps"], made["seed"], made["sampler"], made["fps"]) == ("a bird", 4, 9, "DDIM", 4)
    assert made["denoising_strength"] == 0.9 and made["size"] == told["size"] == "32x32"
    assert {Path(path).suffix for path in told["written"]} == {".webp", ".png"}
    assert Path(told["written"][0]).parent.name == "x" and "a-refined" in told["written"][0]


def test_the_clip_is_img2img_of_the_enlarged_frames(run, models):
    """With Lanczos, `render` makes the same clip from the same start pictures."""
    clip("a.apng")
    refined(run, "a.apng", "--denoising-strength", "0.6", "--out", "b.apng", *models)
    code, _, err = run("render", "a cat", "--negative", "a dog", "--init", "a.apng", "--size", "64x64", "--steps", "2",
                       "--seed", "5", "--cfg", "1", "--context", "4", "--sampler", "Euler a", "--denoising-strength",
                       "0.6", "--device", "cpu", "--out", "c.apng")
    assert code == 0, err
    assert np.array_equal(shown("b.apng"), shown("c.apng"))
    assert not np.array_equal(shown("b.apng"), [np.kron(f, np.ones((2, 2, 1), np.uint8)) for f in frames()])


def test_enlarging_alone_is_pillows_and_needs_no_model(run, no_models):
    clip("a.apng")
    told = refined(run, "a.apng", "--denoising-strength", "0", "--scale", "1.7", "--out", "b.apng", "--json")
    wanted = [Image.fromarray(frame).resize((54, 54), Image.Resampling.LANCZOS) for frame in frames()]
    assert np.array_equal(shown("b.apng"), wanted) and told["size"] == "54x54"
    assert told["temporal_error"]["before"]["difference"] >= 0
    assert "32x32 to 54x54 by Lanczos, denoising strength 0" in run("info", "b.apng")[1]
    refined(run, "a.apng", "--denoising-strength", "0", "--size", "64x32", "--fit", "stretch",
            "--out", "c.apng", "--json")
    assert np.array_equal(shown("c.apng"), [np.asarray(Image.fromarray(frame).resize(
        (64, 32), Image.Resampling.LANCZOS)) for frame in frames()])


@pytest.mark.slow
def test_frames_are_enlarged_one_by_one(run, no_models, monkeypatch):
    """Each frame is written before more than a few following ones are read."""
    clip("a.apng", frames(40))
    events = []
    add, pictures = ClipWriter.add, read.pictures

    def reading(path):
        for picture in pictures(path):
            events.append("read")
            yield picture

    monkeypatch.setattr(ClipWriter, "add", lambda self, frame: (events.append("written"), add(self, frame))[1])
    monkeypatch.setattr(read, "pictures", reading)
    refined(run, "a.apng", "--denoising-strength", "0", "--out", "b.apng", "--json")
    ahead = [events[:i].count("read") - 2 * events[:i].count("written") for i in range(len(events))]
    assert events.count("written") == 40 and max(ahead) <= 4


@pytest.mark.parametrize("strength", ["0", "0.5"])
def test_an_upscaler_model(run, models, strength):
    pytest.importorskip("einops")
    torch.manual_seed(0)
    state = {f"body.{key}": value for key, value in torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.PReLU(4), torch.nn.Conv2d(4, 48, 3)).state_dict().items()}
    torch.save({"params": state}, "small.pth")
    clip("a.apng")
    told = refined(run, "a.apng", "--upscaler", "small.pth", "--denoising-strength", strength, "--out", "b.apng",
                   *models)
    note = told["metadata"]["refined"][0]
    assert (note["upscaler"], note["to"], note["size"]) == ("small.pth", "64x64", "32x32") and note["upscaler_sha256"]
    assert shown("b.apng")[0].shape == (64, 64, 3)


@pytest.mark.slow
def test_latents_are_enlarged_as_in_the_webui(run, models):
    clip("a.apng")
    told = refined(run, "a.apng", "--upscaler", "latent", "--denoising-strength", "0.9", "--out", "b.apng", *models)
    assert told["size"] == "64x64" and told["metadata"]["refined"][0]["upscaler"] == "latent"
    refined(run, "a.apng", "--denoising-strength", "0.9", "--out", "c.apng", *models)
    assert not np.array_equal(shown("b.apng"), shown("c.apng"))


def test_a_clip_without_settings(run, models, files):
    clip("a.gif", text="", fps=10, loop=3)
    given = ["--prompt", "a cat", "--motion-module", "good", "--steps", "2", "--cfg", "1", "--seed", "1"]
    told = refined(run, "a.gif", *given, "--out", "b.gif", *models)
    assert told["fps"] == 10 and told["metadata"]["settings"]["init"] == "a.gif" and read.plays("b.gif") == 3
    repeat = run("render", "--from", "b.gif", "--device", "cpu", "--out", "c.gif")
    assert repeat[0] == 0, repeat[2]
    assert np.array_equal(shown("b.gif"), shown("c.gif"))


@pytest.mark.slow
def test_a_clip_of_the_webui(run, models):
    text = ('a cat\nNegative prompt: a dog\nSteps: 2, Sampler: Euler a, CFG scale: 1, Seed: 5, Size: 32x32, Model: '
            'tiny, AnimateDiff: "enable: True, motion_module: good.safetensors, frames: 3, fps: 8, context_length: 4"')
    clip("a.gif", text=text)
    told = refined(run, "a.gif", "--out", "b.gif", *models)
    made = told["metadata"]["refined"][0]
    assert {name: made["settings"][name] for name in ("prompt", "negative", "steps", "seed", "sampler")} == {
        name: SETTINGS[name] for name in ("prompt", "negative", "steps", "seed", "sampler")}
    assert made["from"]["text"] == text
    refined(run, "a.gif", "--denoising-strength", "0", "--out", "c.gif", "--json")
    assert metadata.read("c.gif") == f"{text}, AnimateDiff refined: 32x32 to 64x64 by Lanczos"


@SLOW
def test_from_makes_the_clip_that_it_was_refined_from(run, models):
    assert run("render", "a cat", *QUICK, "--out", "a.apng")[0] == 0
    refined(run, "a.apng", "--out", "b.apng", *models)
    code, _, err = run("render", "--from", "b.apng", "--device", "cpu", "--out", "c.apng")
    assert code == 0 and np.array_equal(shown("a.apng"), shown("c.apng")), err


@SLOW
def test_refining_a_refined_clip_goes_on_from_its_settings(run, models):
    clip("a.apng")
    refined(run, "a.apng", "--prompt", "a bird", "--scale", "1", "--seed", "8", "--out", "b.apng", *models)
    told = refined(run, "b.apng", "--scale", "2", "--out", "c.apng", *models)
    first, second = told["metadata"]["refined"]
    assert (second["settings"]["prompt"], second["settings"]["seed"]) == ("a bird", 8)
    assert (first["to"], second["size"], second["to"]) == ("32x32", "32x32", "64x64")
    assert told["metadata"]["settings"]["prompt"] == "a cat" and second["from"]["name"] == "b.apng"


def test_a_clip_that_plays_to_and_fro_is_refined_once(run, models):
    there = frames(4)
    clip("a.apng", [*there, there[2], there[1]], closed_loop="ping-pong", frames=4, context_length=4)
    told = refined(run, "a.apng", "--out", "b.apng", *models)
    found = shown("b.apng")
    assert told["frames"] == len(found) == 6 and told["metadata"]["refined"][0]["settings"]["frames"] == 4
    assert np.array_equal(found[1], found[5]) and np.array_equal(found[2], found[4])
    assert not any("more pictures" in note for note in told["notes"])


@pytest.mark.parametrize(("loop", "count", "expected"), [
    ("seamless", 6, "seamless"), pytest.param("ping-pong", 12, "seamless", marks=SLOW),
    pytest.param("none", 6, "none", marks=SLOW)])
def test_a_loop_stays_closed(run, models, loop, count, expected):
    """A clip of 4 frames that plays forwards and backwards and has 12 frames was interpolated.

    The refined clip has all 12 as its own frames.
    """
    clip("a.apng", frames(count), closed_loop=loop, frames=4 if count == 12 else 6)
    told = refined(run, "a.apng", "--scale", "1", "--out", "b.apng", *models)
    made = told["metadata"]["refined"][0]["settings"]
    assert (made["closed_loop"], made["frames"], told["frames"]) == (expected, count, count)


@SLOW
def test_interpolation_and_its_note_are_kept(run, models):
    clip("a.apng", frames(2), fps=4.0)
    assert run("interpolate", "a.apng", "--method", "blend", "--out", "b.apng")[0] == 0
    told = refined(run, "b.apng", "--out", "c.apng", *models)
    assert told["fps"] == 8 and told["frames"] == 4
    assert told["metadata"]["interpolation"] == [{"method": "blend", "from_fps": 4.0, "fps": 8.0}]


def test_sound_is_kept(run, no_models):
    with av.open("a.mp4", "w") as file:
        video, sound = file.add_stream("libx264", 8), file.add_stream("aac", 44100)
        video.width = video.height = 32
        for frame in frames(16):
            file.mux(video.encode(av.VideoFrame.from_ndarray(frame)))
        tone = (np.sin(np.arange(88200) / 20) * 8000).astype(np.float32)[None] / 32768
        samples = av.AudioFrame.from_ndarray(tone, "fltp", "mono")
        samples.sample_rate = 44100
        file.mux(sound.encode(samples))
        file.mux(video.encode(None))
        file.mux(sound.encode(None))
    refined(run, "a.mp4", "--denoising-strength", "0", "--out", "b.mp4", "--json")
    with av.open("b.mp4") as file:
        assert len(file.streams.audio) == 1 and file.streams.video[0].width == 64
        level = np.concatenate([frame.to_ndarray().ravel() for frame in file.decode(audio=0)])
        assert 0.15 < level.max() < 0.3


def test_interrupted_and_continued_it_is_the_same_clip(run, models, monkeypatch):
    clip("a.apng")
    flags = ["a.apng", "--steps", "6", "--denoising-strength", "0.9", "--scale", "1"]
    refined(run, *flags, "--out", "plain.apng", *models)
    saved, save = [], resume.Keeper.save

    def cut(*args):
        save(*args)
        saved.append(args)
        if len(saved) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(resume.Keeper, "save", cut)
        code, out, err = run("refine", *flags, "--out", "cut.apng", *models)
    assert code == 130 and json.loads(out)["interrupted"] and "refine --resume" in err
    code, _, err = run("render", "--resume", "--out", "cut.apng", models=False)
    assert code == 2 and "animatediff refine --resume" in err
    code, _, err = run("refine", "a.apng", "--resume", "--seed", "6", "--out", "cut.apng", *models)
    assert code == 2 and "different run" in err
    refined(run, "--resume", "--out", "cut.apng", "--json")
    assert Path("cut.apng").read_bytes() == Path("plain.apng").read_bytes() and not Path("cut.state").exists()


@SLOW
def test_killed_and_continued_it_is_the_same_clip(run, models, files, tmp_path):
    clip("a.apng", frames(6))
    flags = ["a.apng", "--steps", "8", "--denoising-strength", "0.9", "--format", "PNG,GIF"]
    refined(run, *flags, "--out", "plain/", *models)
    process = python("-m", "animatediff", "refine", *flags, "--out", "cut/", *models, cwd=tmp_path)
    state = tmp_path / "cut" / "a-refined.state"
    end = time.monotonic() + 120
    while not state.exists() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL and state.exists()
    told = refined(run, "--resume", "--out", "cut/", "--json")
    assert told["frames"] == 6 and not state.exists()
    assert (tmp_path / "cut/a-refined.gif").read_bytes() == (tmp_path / "plain/a-refined.gif").read_bytes()
    for path in (tmp_path / "plain/a-refined").iterdir():
        assert path.read_bytes() == (tmp_path / "cut/a-refined" / path.name).read_bytes()


@pytest.mark.parametrize(("words", "said"), [
    (("gone.gif",), "gone.gif"), ((), "FILE"), (("a.apng", "--scale", "9"), "--scale"),
    (("a.apng", "--scale", "2", "--size", "64x64"), "--scale"), (("a.apng", "--upscaler", "gone.pth"), "gone.pth"),
    (("a.apng", "--upscaler", "a.apng"), "a.apng"), (("a.apng", "--denoising-strength", "2"), "--denoising-strength"),
    (("a.apng", "--denoising-strength", "0", "--scale", "1"), "nothing to do"),
    (("a.apng", "--denoising-strength", "0", "--upscaler", "latent"), "latent"),
    (("a.apng", "--out", "x.doc"), "x.doc"), (("a.apng", "--steps", "0"), "--steps"),
    (("a.apng",), "--checkpoint"), (("a.apng", "--resume", "--save-state", "-1"), "--save-state")])
def test_what_is_refused(run, no_models, tmp_path, words, said):
    clip("a.apng")
    code, _, err = run("refine", *words)
    assert code in (2, 3, 4) and said in err and not list(tmp_path.glob("outputs/*")), err


def test_a_missing_spandrel_is_named(run, no_models, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "spandrel", None)
    torch.save({"body.0.weight": torch.zeros(4, 3, 3, 3), "body.1.weight": torch.zeros(4)}, "small.pth")
    clip("a.apng")
    code, _, err = run("refine", "a.apng", "--upscaler", "small.pth")
    assert code == 4 and "[upscale]" in err
