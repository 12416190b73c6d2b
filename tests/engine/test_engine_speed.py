"""Speed presets in the engine and on the command line, and their effect on the demo model's clips."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from command_line import files, run  # noqa: F401
from slow_cases import slow

from animatediff import step_reuse
from animatediff.engine.pipeline import Pipeline
from animatediff.settings import parse

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def settings(**more):
    return parse({"enable": True, "prompt": "a red circle", "seed": 3, "steps": 9, "frames": 4, "context_length": 4,
                  "size": "64x64", "sampler": "Euler", "speed": "draft", **more})


@pytest.fixture
def rows(pipeline):
    """The number of rows in each UNet call."""
    seen = []
    handle = pipeline.unet.conv_in.register_forward_hook(lambda m, args, out: seen.append(len(out)))
    yield seen
    handle.remove()


@pytest.mark.parametrize("sampler", [slow("DDIM"), "Heun"])
def test_whole_steps_run_both_prompts_and_others_one(pipeline, rows, sampler):
    pipeline.sample(settings(sampler=sampler))
    whole = step_reuse.whole_steps("draft", 9)
    expected = [8 if step in whole else 4 for step in range(9) for _ in range(2 if sampler == "Heun" else 1)]
    assert rows == (expected[:-1] if sampler == "Heun" else expected)


@pytest.mark.parametrize("more", [
    {}, slow({"cfg": 1}), slow({"frames": 6, "closed_loop": "seamless"}), slow({"enable": False}),
    slow({"freeinit_iterations": 2, "steps": 8})], ids=str)
def test_clip_is_reproducible_and_close_to_the_exact_one(pipeline, rows, more):
    before = [(name, sorted(vars(m))) for name, m in pipeline.unet.named_modules()]
    found = pipeline.sample(settings(**more))
    asked = sum(rows)
    assert torch.equal(pipeline.sample(settings(**more)), found)
    rows.clear()
    exact = pipeline.sample(settings(**more, speed="exact"))
    noise = pipeline.sample(settings(**more, speed="exact", seed=4))
    assert 0 < (found - exact).std() < 0.5 * (noise - exact).std()
    assert asked < sum(rows) or more == {"cfg": 1}, "rows are left out with the negative prompt"
    assert [(name, sorted(vars(m))) for name, m in pipeline.unet.named_modules()] == before


@pytest.mark.slow
def test_few_steps_are_exact(pipeline):
    few = {"steps": step_reuse.LEAST, "frames": 6}
    assert torch.equal(pipeline.sample(settings(**few)), pipeline.sample(settings(**few, speed="exact")))


def test_interrupt_leaves_the_unet_unchanged(pipeline):
    def stop(event):
        if event.step == 9:
            raise KeyboardInterrupt

    before = [(name, sorted(vars(m)), len(m._forward_hooks)) for name, m in pipeline.unet.named_modules()]
    with pytest.raises(KeyboardInterrupt):
        pipeline.sample(settings(), stop)
    assert [(name, sorted(vars(m)), len(m._forward_hooks)) for name, m in pipeline.unet.named_modules()] == before


@pytest.mark.slow
def test_command_line_reports_the_whole_steps(run, tmp_path):
    code, _, err = run("render", "x", "--frames", "4", "--size", "64x64", "--steps", "8",
                       "--speed", "draft", "--out", "a.gif")
    assert code == 0 and "speed draft: the whole UNet runs in 7 of 8 steps" in err
    code, _, err = run("render", "x", "--speed", "fast")
    assert code == 2 and "--speed" in err and "draft" in err


@pytest.mark.slow
def test_demo_clips_are_close_to_the_exact_ones():
    """The PSNR of each preset is at least 25 dB."""
    demo = Pipeline.load()
    for prompt in ("a red circle moving right", "a green star moving up on a black background"):
        asked = {"enable": True, "prompt": prompt, "seed": 1}
        exact, *others = (np.stack(list(demo.render(parse({**asked, "speed": name})))).astype(float)
                          for name in step_reuse.SHARES)
        assert all(10 * np.log10(255**2 / ((other - exact) ** 2).mean()) > 25 for other in others)
