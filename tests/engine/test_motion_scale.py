"""Motion scale in the engine and on the command line, and its effect on the demo model's clips."""
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import QUICK, files, run  # noqa: F401
from PIL import Image, ImageDraw
from slow_cases import slow

from animatediff.engine import pipeline as engine
from animatediff.engine.pipeline import Pipeline
from animatediff.motion import FAMILIES, Steering
from animatediff.notices import of_clip
from animatediff.settings import Settings, parse

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
ROOT = Path(engine.__file__).resolve().parents[2]


def settings(**more):
    return parse({"enable": True, "prompt": "a red circle", "seed": 3, "steps": 2, "frames": 6, "context_length": 4,
                  "size": "64x64", "sampler": "Euler", **more})


def oval(path, width=64, height=64):
    picture = Image.new("L", (width, height))
    ImageDraw.Draw(picture).ellipse((2, 4, 62, 64), fill=255)
    picture.save(path)
    return path


@pytest.mark.slow
def test_motion_scale_equals_scaled_keys(pipeline, tiny, tmp_path):
    """Compared with a module whose to_k weights are scaled, over several windows and with CFG."""
    ordinary = pipeline.sample(settings())
    module = engine.load_module(tiny.module)
    with torch.no_grad():
        for name, p in module.named_parameters():
            if name.endswith("to_k.weight"):
                p.mul_(0.4)
    expected = Pipeline(pipeline.components, module).sample(settings())
    Image.new("L", (9, 9)).save(tmp_path / "black.png")
    for more in ({"motion_scale": "0.4"}, {"motion_scale": "0.2", "motion_scale_steps": "2"},
                 {"motion_mask": tmp_path / "black.png", "motion_mask_min": 0.4}):
        off = (pipeline.sample(settings(**more)) - expected).abs().max()
        assert off < 0.01 * (ordinary - expected).abs().max(), off  # random weights amplify rounding
    Image.new("L", (9, 9), 255).save(tmp_path / "white.png")
    for more in ({"motion_scale": "1, 1"}, {"motion_mask": tmp_path / "white.png"}):
        assert torch.equal(pipeline.sample(settings(**more)), ordinary)


@pytest.mark.slow
def test_motion_effect_0_gives_stills(pipeline):
    still = pipeline.sample(settings(enable=False, motion_effect="1"))
    module = pipeline.sample(settings(motion_effect="0"))
    assert module.shape == still.shape and not torch.allclose(module, pipeline.sample(settings()), atol=1e-2)


@pytest.mark.parametrize("sampler", ["Euler", "Heun", slow("DDIM"), slow("DPM++ SDE")])
def test_motion_scale_gets_the_samplers_step(pipeline, sampler, monkeypatch):
    seen, at = [], Steering.at
    monkeypatch.setattr(Steering, "at",
                        lambda self, step, steps, *site: seen.append((step, steps)) or at(self, step, steps, *site))
    pipeline.sample(settings(sampler=sampler, steps=3, motion_scale_steps="0: 2, 2: 1"))
    assert list(dict.fromkeys(seen)) == [(0, 3), (1, 3), (2, 3)]


def test_scales_of_long_animatediff_are_noted():
    def told(frames, scale="1"):
        wanted = Settings(frames=frames, context_length=frames, motion_scale=scale)
        return [note for note in of_clip(wanted, "long", FAMILIES["LongAnimateDiff"], "DDIM") if "motion scale" in note]

    assert "1.15 with 32" in told(32)[0] and "1.28 with 64" in told(64)[0]
    assert not told(64, "1.28") and not told(16)
    assert not [n for n in of_clip(Settings(frames=32, context_length=32), "x", FAMILIES["v2"], "DDIM")
                if "motion scale" in n]


@pytest.mark.parametrize("flags, code, said", [
    (["--motion-mask", "nowhere.png"], 4, ["nowhere.png", "no such file"]),
    (["--motion-mask", "."], 4, ["is a folder"]),
    (["--motion-mask", "words.png"], 4, ["words.png", "neither a picture nor a video"]),
    (["--motion-scale", "11"], 2, ["--motion-scale", "out of range"]),
    (["--motion-scale", "0: 1, x"], 2, ["--motion-scale", "'x'"]),
    (["--motion-scale-steps", "-1"], 2, ["--motion-scale-steps"]),
    (["--motion-effect", "2.5"], 2, ["--motion-effect", "from 0 to 2"]),
    (["--motion-mask-min", "a"], 2, ["--motion-mask-min"]),
])
def test_invalid_values_are_refused_before_models_load(run, tmp_path, flags, code, said):
    (tmp_path / "words.png").write_text("hunter2 is no picture")
    found, out, err = run("render", "x", *QUICK, *flags, "--out", "demo.gif")
    assert found == code and all(word in err for word in said) and "Loading" not in err and "hunter2" not in err
    assert not (tmp_path / "demo.gif").exists()


def frames(path):
    with Image.open(path) as gif:
        return [np.asarray(gif.seek(i) or gif.convert("RGB")) for i in range(gif.n_frames)]


@pytest.mark.slow
def test_repeated_clip_needs_its_mask(run, tmp_path):
    (tmp_path / "masks").mkdir()
    mask = oval(tmp_path / "masks" / "oval.png")
    steered = ["--motion-mask", "masks/oval.png", "--motion-mask-min", "0.4", "--motion-scale", "0: 1, 2: 1.5"]
    assert run("render", "x", *QUICK, *steered, "--out", "demo.gif")[0] == 0
    again = ["render", "--from", "demo.gif", "--device", "cpu", "--out", "again.gif"]
    code, out, err = run(*again)
    assert code == 0 and "--motion-mask masks/oval.png" in out and "'0: 1, 2: 1.5'" in out and "another" not in err
    assert all(np.array_equal(a, b) for a, b in zip(frames("demo.gif"), frames("again.gif"), strict=True))
    mask.rename(tmp_path / "oval.png")  # in the clip's folder
    assert run(*again)[0] == 0
    Image.new("L", (4, 4)).save(tmp_path / "oval.png")
    assert "another motion mask, oval.png" in run(*again)[2]
    (tmp_path / "oval.png").unlink()
    code, _, err = run(*again)
    assert code == 4 \
        and "was made with the motion mask masks/oval.png, which is not here. Give --motion-mask PATH" in err
    assert run(*again, "--motion-mask", "")[0] == 0


def render(out, *flags) -> np.ndarray:
    command = [sys.executable, "-m", "animatediff", "render", *flags, "--quiet", "--device", "cpu", "--out", str(out)]
    subprocess.run(command, check=True, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True)
    return np.stack(frames(out)).astype(float)


@pytest.mark.slow
def test_mask_reduces_motion_only_outside(tmp_path):
    """Compare the change between frames inside and outside the mask.

    At 64x128 the demo model also draws shapes outside the oval.
    """
    mask = oval(tmp_path / "oval.png", 64, 128)
    inside = np.asarray(Image.open(mask)) > 127
    found = []
    for prompt in ("a red circle moving right", "a green star moving right"):
        for seed in ("1", "2"):
            asked = [prompt, "--seed", seed, "--size", "64x128"]
            for flags in ([], ["--motion-mask", str(mask), "--motion-mask-min", "0.4"]):
                change = np.abs(np.diff(render(tmp_path / "a.gif", *asked, *flags), axis=0)).mean((0, 3))
                found.append((change[inside].mean(), change[~inside].mean()))
    plain, masked = np.mean(found[::2], 0), np.mean(found[1::2], 0)
    print(plain, masked)
    assert masked[1] < 0.5 * plain[1] and masked[0] > 0.75 * plain[0]


@pytest.mark.slow
def test_smaller_motion_scale_gives_less_motion(tmp_path):
    from benchmarks.measure import look

    def way(scale):
        clip = render(tmp_path / "a.gif", "a red circle moving right", "--seed", "1", "--motion-scale", scale)
        first, last = look(clip[0]), look(clip[-1])
        return last.centre[0] - first.centre[0]

    full, less, none = (way(scale) for scale in ("1", "0.7", "0.4"))
    assert full > 20 and none < 3 and none < less < full
