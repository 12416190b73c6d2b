# ruff: noqa: F401
"""The speed presets in the stand-in for the WebUI.

tests/motion/test_reuse.py tests the results of a reusing step. Here the host's passes must request the right steps and
undo everything.
"""
from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from slow_cases import slow

sys.path.append(str(Path(__file__).parent))
from test_standin_adapter import animate, failing, frames_of, host, library, snapshot

from animatediff.step_reuse import whole_steps

DRAFT = {"speed": "draft", "returns": "frames", "video_length": 4}
EXACT = {**DRAFT, "speed": "exact"}


@pytest.fixture
def rows(host):
    """The number of rows of each UNet call, and how many of its inner blocks ran."""
    seen = []
    unet = host.shared.sd_model.model.diffusion_model
    handles = [unet.register_forward_pre_hook(lambda m, args: seen.append([len(args[0]), 0]) or None),
               unet.middle_block[0].in_layers.register_forward_hook(lambda m, args, out: seen[-1].__setitem__(1, 1))]
    yield seen
    for handle in handles:
        handle.remove()


def apart(a, b):
    assert a.shape == b.shape
    return float(np.abs(a.astype(float) - b).mean())


@pytest.mark.parametrize("sampler", ["Euler", slow("DDIM")])
def test_steps_that_reuse_ask_for_the_prompt_alone(host, rows, sampler):
    answer = animate(host, DRAFT, sampler_name=sampler, steps=10)
    count = 9 if sampler == "DDIM" else 10  # the WebUI's DDIM calls the model once less than it has steps
    assert rows == [[8, 1] if step in whole_steps("draft", count) else [4, 0] for step in range(count)]
    assert f"speed draft: the UNet ran as a whole for 7 of {count} windows" \
        in "".join(answer.info["extra_generation_params"]["AnimateDiff notes"])
    assert "speed: draft" in answer.info["infotexts"][0]
    found, exact = frames_of(answer), frames_of(animate(host, EXACT, sampler_name=sampler, steps=10))
    other = frames_of(animate(host, EXACT, sampler_name=sampler, steps=10, seed=99))
    assert 0 < apart(found, exact) < 0.5 * apart(other, exact)
    assert np.array_equal(frames_of(animate(host, DRAFT, sampler_name=sampler, steps=10)), found)


def test_a_host_that_calls_the_layers_of_blocks(host, rows, monkeypatch):
    """As reForge does. It never calls a block."""
    expected, of_blocks = frames_of(animate(host, DRAFT, steps=10)), rows[:]
    rows.clear()
    kind = type(host.shared.sd_model.model.diffusion_model.middle_block)
    monkeypatch.setattr(kind, "__call__", kind.forward)
    assert np.array_equal(frames_of(animate(host, DRAFT, steps=10)), expected) and rows == of_blocks


@pytest.mark.slow
def test_apart_roles_and_parts_of_and(host, rows):
    host.opts.data["batch_cond_uncond"] = False
    try:
        animate(host, DRAFT, steps=9)
    finally:
        host.opts.data["batch_cond_uncond"] = True
    whole = [step in whole_steps("draft", 9) for step in range(9)]
    assert rows == [row for step in whole for row in ([[4, 1], [4, 1]] if step else [[4, 0]])]
    rows.clear()
    animate(host, DRAFT, steps=9, prompt="a red circle AND a square :0.5")
    assert rows == [[12, 1] if step else [4, 0] for step in whole]


@pytest.mark.slow
def test_few_steps_are_the_exact_clip(host):
    assert np.array_equal(*(frames_of(animate(host, one, steps=7)) for one in (DRAFT, EXACT)))


@pytest.mark.slow
def test_each_pass_begins_anew(host, rows):
    fields = {"steps": 8, "enable_hr": True, "hr_upscaler": "Latent",
              "denoising_strength": 1.0, "hr_second_pass_steps": 8}
    before = snapshot(host)
    answer = animate(host, DRAFT, **fields)
    assert answer.status == 200, answer
    first = list(rows[:8])
    assert first == [[8, 1]] * 6 + [[4, 0], [8, 1]] and rows[8] == [8, 1]
    assert snapshot(host) == before


@pytest.mark.parametrize("more", [slow({"freeinit_iterations": 2}), slow({"seam_repair": 0.5}),
                                  slow({"video_length": 6, "context_length": 4})], ids=str)
def test_other_ways_to_sample_go_with_it(host, more):
    before = snapshot(host)
    found, exact, other = (frames_of(animate(host, {**one, **more}, steps=8, seed=seed))
                           for one, seed in ((DRAFT, 7), (EXACT, 7), (EXACT, 99)))
    assert 0 < apart(found, exact) < 0.5 * apart(other, exact)
    assert snapshot(host) == before


def test_a_fault_in_a_reusing_step_is_undone(host, rows):
    before, unet = snapshot(host), host.shared.sd_model.model.diffusion_model

    def fail(module, args):
        if len(rows) == 9:
            raise RuntimeError("out of luck")

    handle = unet.input_blocks[0].register_forward_pre_hook(fail)
    try:
        answer = animate(host, DRAFT, steps=10)
    finally:
        handle.remove()
    assert answer.status != 200 and rows[8] == [4, 0]
    assert snapshot(host) == before
    answer = animate(host, {**DRAFT, "speed": "fast"})
    assert answer.status == 422 and "speed" in str(answer.detail) and "draft" in str(answer.detail)
