"""Loops and seam repair in the engine, with a tiny random model."""
from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from slow_cases import slow
from test_pipeline import Spy, hooks, settings

from animatediff import sampler_table
from animatediff.engine import samplers
from animatediff.faces.cli import main as cli
from animatediff.media import metadata
from animatediff.sampling.seam import Seam

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.mark.parametrize("frames", [slow(4), 9])
def test_ping_pong_plays_the_open_clip_forwards_and_backwards(pipeline, frames):
    there = list(pipeline.render(settings(frames=frames)))
    both = list(pipeline.render(settings(frames=frames, closed_loop="ping-pong")))
    assert len(both) == 2 * frames - 2
    for k, picture in enumerate(both):
        np.testing.assert_array_equal(picture, there[min(k, 2 * frames - 2 - k)])


@pytest.mark.slow
def test_long_ping_pong_clip_keeps_few_pictures(pipeline, monkeypatch):
    from animatediff.engine import pipeline as engine

    asked = settings(frames=9, closed_loop="ping-pong")
    whole = list(pipeline.render(asked))
    decoded, picture = [], engine.vae.decode
    monkeypatch.setattr(engine.vae, "decode", lambda *given, **more: decoded.append(given) or picture(*given, **more))
    monkeypatch.setattr(engine, "KEPT", 3)
    assert all((a == b).all() for a, b in zip(pipeline.render(asked), whole)) and len(decoded) == 16 - 3


def test_ping_pong_does_not_close_the_prompt_schedule(pipeline):
    travelling = dict(prompt="0: x\n8: y", frames=12)
    ends = {loop: pipeline.plan(settings(closed_loop=loop, **travelling)).inputs.prompt.mixes[-1]
            for loop in ("none", "ping-pong", "seamless", "A")}
    assert ends["none"] == ends["ping-pong"] != ends["seamless"] == ends["A"]


@pytest.mark.slow
def test_seamless_makes_the_ends_more_alike(pipeline):
    """A random motion module makes the frames of a window more alike.

    The frames at the seam are in one window only if the window wraps.
    """
    def ends(loop):
        clips = [pipeline.sample(settings(frames=4, steps=6, closed_loop=loop, seed=s)) for s in range(2)]
        return float(np.mean([(x[-1] - x[0]).norm() / (x[1:] - x[:-1]).flatten(1).norm(dim=1).median() for x in clips]))

    assert ends("seamless") < ends("none")


@pytest.mark.parametrize("sampler", [name if name == "Euler a" else slow(name)
                                     for name in sampler_table.SAMPLERS])
def test_seam_repair_changes_only_the_frames_around_the_seam(pipeline, sampler):
    asked = dict(frames=8, context_length=6, steps=2, sampler=sampler, cfg=1)
    plain = pipeline.sample(settings(**asked))
    events = []
    with Spy(pipeline.unet) as spy:
        repaired = pipeline.sample(settings(seam_repair=0.5, **asked), events.append)
    assert len(spy.rows) == pipeline.plan(settings(seam_repair=0.5, **asked)).calls() \
        == sum(e.kind == "window" for e in events)
    changed = [i for i in range(8) if not torch.equal(plain[i], repaired[i])]
    assert changed == [0, 1, 6, 7] and torch.isfinite(repaired).all()
    assert hooks(pipeline.unet) == 0


@pytest.mark.parametrize("share, steps", [(0.01, 1), (0.5, 11), (1, 20)])
def test_seam_repair_does_the_steps_of_the_webuis_img2img(pipeline, share, steps):
    """setup_img2img_steps in modules/sd_samplers_common.py does int(strength * 20) + 1 steps, at most 20."""
    plan = pipeline.plan(settings(frames=6, steps=20, seam_repair=share))
    assert plan.repair.run.steps == plan.repair.seam.steps == len(plan.repair.calls()) == steps


@pytest.mark.parametrize("more", [{"closed_loop": "ping-pong"}, {"frames": 3}, {"enable": False}])
def test_seam_repair_without_a_seam_has_no_effect(pipeline, more):
    asked = settings(**{"frames": 6, "seam_repair": 0.8, **more})
    assert torch.equal(pipeline.sample(asked), pipeline.sample(settings(**{"frames": 6, **more, "seam_repair": 0.0})))


@pytest.mark.parametrize("name", [n for n, s in sampler_table.SAMPLERS.items() if not s.stochastic])
def test_sampling_from_the_middle_follows_the_ode(name):
    """Noise is added to a picture of N(μ, s²) at the level of a step, and denoised by the exact denoiser.

    The expected result is the ODE's map in closed form. Held frames keep their finished values exactly.
    """
    from test_samplers import MU, V2, Gaussian, S, unit

    run = samplers.Run(name, V2, 60, strength=0.5)
    assert run.steps == 31
    noise, sources = unit()
    clean = torch.full_like(noise, MU)
    seam = Seam(tuple(range(4)), (0, 0, 31, 15), 31)
    out = run(Gaussian(V2), noise, sources, clean=clean, held=seam.held(clean)).double()
    expected = MU + S * run.sigma_max * noise.double() / np.sqrt(S**2 + run.sigma_max**2)
    assert (out[:2] - expected[:2]).abs().max() < 0.08 * (expected[:2] - MU).abs().max()
    assert torch.equal(out[2], clean[2].double())
    late = MU + S * run.levels[15] * noise[3].double() / np.sqrt(S**2 + run.levels[15] ** 2)
    assert (out[3] - late).abs().max() < 0.1 * (late - MU).abs().max()


@pytest.mark.slow
def test_command_line_and_files_have_the_loop_score(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["render", "x", "--frames", "5", "--context", "4", "--steps", "2", "--seed", "1", "--size", "64x64",
             "--checkpoint", str(tiny.checkpoint), "--motion-module", str(tiny.module), "--device", "cpu",
             "--closed-loop", "seamless", "--format", "GIF,WEBP,TXT,PNG", "--quiet", "--out", "a.gif"]
    assert cli.main(words) == 0
    assert "Loop score: " in capsys.readouterr().out
    assert cli.main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    from PIL import Image

    frames = np.array([np.asarray(Image.open(tmp_path / f"a/{i:05d}.png"), float) for i in range(5)])
    step, seam = np.median(abs(np.diff(frames, axis=0)).mean((1, 2, 3))), abs(frames[-1] - frames[0]).mean()
    assert told["loop"] == {"score": pytest.approx(seam / max(step, 0.25), abs=1e-3),
                            "seam": pytest.approx(seam, abs=1e-3), "step": pytest.approx(step, abs=1e-3)}
    assert told["metadata"]["loop"] == told["loop"]
    for name in ("a.gif", "a.webp", "a.txt"):
        assert json.loads(metadata.read(tmp_path / name))["loop"] == told["loop"]
