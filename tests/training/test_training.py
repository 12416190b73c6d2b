"""What the demo model's training rests on, seen in miniature."""
from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from training import text
from training.clips import ASIDE, DIRECTIONS, SIZE, random_clip
from training.diffusion import alphas_cumprod, first_steps, half_hidden, near, share_seen
from training.loop import Plan, train

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def captions():
    rng = random.Random(0)
    return [random_clip(rng).caption for _ in range(600)]


@pytest.mark.slow
def test_the_text_encoder_tells_left_from_right(captions, tmp_path):
    texts = text.Texts(tmp_path / "clip")
    pair = texts(["a red circle moving right", "a red circle moving left"])

    def apart(encoder):
        with torch.no_grad():
            right, left = encoder(pair).last_hidden_state[:, 7]  # behind the caption's end
        return ((right - left).norm() / right.norm()).item()

    before = apart(text.build(texts.size).eval())
    assert apart(text.fit(tmp_path, captions, texts, steps=100, batch=16, seed=0)) > max(0.3, 2 * before)


def test_a_track_along_an_axis_keeps_near_the_middle_of_the_other():
    rng = random.Random(1)
    for clip in (random_clip(rng) for _ in range(300)):
        if clip.motion in DIRECTIONS:
            start = torch.stack([clip.scene.x[0], clip.scene.y[0]]) - SIZE / 2
            going = torch.tensor(DIRECTIONS[clip.motion])
            assert (start[going == 0].abs() <= ASIDE).all(), clip.caption


def test_a_stopped_run_goes_on_as_if_it_had_not(tmp_path):
    def run(folder, stop_at=None):
        torch.manual_seed(0)
        layer = torch.nn.Linear(4, 4)

        def loss_at(step):
            if step == stop_at:
                raise KeyboardInterrupt
            return {"loss": (layer(torch.randn(8, 4)) - 1).square().mean()}

        folder.mkdir(exist_ok=True)
        train("run", folder, {"layer": layer}, layer.parameters(), loss_at,
              Plan(steps=7, rate=1e-2, ema=0.9, save_every=2))
        return torch.cat([p.detach().flatten() for p in layer.parameters()])

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "stopped", stop_at=5)
    assert torch.equal(run(tmp_path / "stopped"), run(tmp_path / "whole"))


def test_a_hidden_picture_leaves_no_trace_but_is_what_is_asked_for():
    torch.manual_seed(0)
    x, t = torch.randn(3, 4, 8, 8), torch.tensor([999, 900, 860])
    alphas = alphas_cumprod("linear")[t]
    torch.manual_seed(1)
    noisy, wanted = half_hidden(x, alphas, torch.zeros(3))
    torch.manual_seed(1)
    other, _ = half_hidden(-x, alphas, torch.zeros(3))
    assert torch.equal(noisy, other)
    a = alphas[:, None, None, None].double()
    assert torch.allclose((noisy.double() - (1 - a).sqrt() * wanted) / a.sqrt(), x.double(), atol=1e-4)


def test_draws_of_the_first_steps():
    torch.manual_seed(0)
    t, seen = first_steps(4000), share_seen(4000)
    assert t.min() >= 850 and t.max() == 999
    assert abs((seen == 0).float().mean() - 0.5) < 0.05 and seen.min() >= 0 and seen.max() == 1


def test_what_stands_out_is_found():
    x = torch.zeros(1, 4, 8, 8)
    x[:, 0, 2, 5] = 3.0
    expected = torch.zeros(8, 8)
    expected[1:4, 4:7] = 1
    assert torch.equal(near(x + 0.7)[0], expected)


@pytest.mark.slow
def test_the_command_makes_a_demo_model_by_two_processes(tmp_path):
    from animatediff.engine.pipeline import Pipeline
    from animatediff.settings import Settings

    steps = [word for stage in ("vae", "text", "image", "motion") for word in (f"--{stage}-steps", "1")]
    done = subprocess.run([sys.executable, "-m", "training", "--work", tmp_path / "run", "--out", tmp_path / "demo",
                           "--clips", "4", *steps], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pipeline = Pipeline.load(tmp_path / "demo" / "demo.safetensors", tmp_path / "demo" / "motion.safetensors")
    settings = Settings(enable=True, prompt="a red circle", frames=2, steps=1, seed=1)
    assert [frame.shape for frame in pipeline.render(settings)] == [(SIZE, SIZE, 3)] * 2
