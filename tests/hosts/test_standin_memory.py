"""Short memory in the stand-in for the WebUI.

The clip is the same with less computed at a time. Its infotext names the fallbacks, and the host is left unchanged.
"""
from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
import torch
from slow_cases import slow
from test_standin_adapter import REQUEST, animate, frames_of, host, library, plain, snapshot  # noqa: F401

CLIP = {"video_length": 9, "batch_size": 4, "overlap": 1, "context_schedule": "static standard", "returns": "frames"}
TWO, ONE = "memory was short: windows are denoised 2 at once", "memory was short: windows are denoised one by one"
APART = "memory was short: prompt and negative prompt are denoised apart"
PARTS = "memory was short: attention is computed in parts"
OPTION = "animatediff_windows_per_call"
SHORTAGES = {"out of memory": lambda: torch.cuda.OutOfMemoryError("CUDA out of memory"), "of the host": MemoryError}


@contextmanager
def memory(host, rows: int, *, whole: bool = True, error=SHORTAGES["out of memory"]):
    """Limit the memory to so many rows of the UNet, and optionally to attention in parts.

    Yield the number of rows of each completed call.
    """
    unet, calls = host.shared.sd_model.model.diffusion_model, []

    def hook(module, args):
        in_parts = all("forward" in vars(part)
                       for name, part in unet.named_modules() if name.endswith((".attn1", ".ff")))
        if len(args[0]) > rows or not (whole or in_parts):
            raise error()
        calls.append(len(args[0]))

    handle = unet.register_forward_pre_hook(hook)
    try:
        yield calls
    finally:
        handle.remove()


def near(a, b):
    return np.abs(frames_of(a).astype(int) - frames_of(b)).max() <= 1


@pytest.mark.parametrize("limits, rungs, rows", [
    slow(dict(rows=32), [], [24] * 3), slow(dict(rows=16), [TWO], [16, 8] * 3), slow(dict(rows=8), [TWO, ONE], [8] * 9),
    (dict(rows=4), [TWO, ONE, APART], [4] * 18), slow(dict(rows=4, whole=False), [TWO, ONE, APART, PARTS], [4] * 18),
    slow(dict(rows=4, error=SHORTAGES["of the host"]), [TWO, ONE, APART], [4] * 18),
], ids=["enough", "two", "one", "apart", "parts", "the host's"])  # fmt: skip
def test_each_rung_gives_the_same_clip(host, monkeypatch, limits, rungs, rows):
    wanted, before = plain(host), snapshot(host)
    expected = animate(host, CLIP)
    with monkeypatch.context() as patch:
        patch.setitem(host.opts.data, OPTION, 4)
        with memory(host, **limits) as calls:
            found = animate(host, CLIP)
    assert calls == rows and near(found, expected)
    assert [note for note in notes(found) if note.startswith("memory")] == rungs
    text = "; ".join(rung.partition(": ")[2] for rung in rungs)
    assert (f"AnimateDiff memory: {text}" in found.info["infotexts"][0]) if rungs else \
        "memory" not in found.info["infotexts"][0]
    assert plain(host) == wanted and snapshot(host) == before


def notes(answer):
    return answer.info["extra_generation_params"]["AnimateDiff notes"]


@pytest.mark.parametrize("what", [
    slow(dict(enable_hr=True, hr_upscaler="Latent")), slow(dict(override_settings={"batch_cond_uncond": False})),
    dict(cfg_scale=1), slow(dict(sampler_name="DDIM")), slow(dict(refiner_checkpoint="second", refiner_switch_at=0.5)),
    slow(dict(prompt="a circle AND a square"))], ids=lambda what: next(iter(what)))
def test_whatever_the_host_does(host, what):
    wanted = plain(host)
    asked = {**CLIP, "motion_scale": "0: 0.5, 8: 1.5"}
    expected = animate(host, asked, **what)
    with memory(host, 4):
        found = animate(host, asked, **what)
    assert near(found, expected) and (APART in notes(found)) == ("override_settings" not in what)
    assert plain(host) == wanted


@pytest.mark.slow
def test_the_rung_is_kept_for_the_pass_and_no_longer(host):
    for _ in range(2):
        with memory(host, 4) as calls:
            found = animate(host, {**CLIP, "video_length": 4})
        assert calls == [4] * 6 and notes(found) == [APART]
    assert notes(animate(host, CLIP)) == []


def test_where_nothing_is_left_to_give_up_the_job_ends(host):
    wanted, before = plain(host), snapshot(host)
    with memory(host, 3):
        answer = animate(host, CLIP)
    assert answer.status == 500 and "CUDA out of memory" in answer.error + answer.errors
    assert plain(host) == wanted and snapshot(host) == before


@pytest.mark.parametrize("speed", [slow("exact"), "balanced"])
def test_windows_at_once(host, monkeypatch, speed):
    asked = {**CLIP, "video_length": 10, "speed": speed}
    expected = animate(host, asked, steps=6)
    monkeypatch.setitem(host.opts.data, OPTION, 2)
    with memory(host, 1000) as calls:
        found = animate(host, asked, steps=6)
    assert max(calls) == 16 \
        and np.abs(frames_of(found).astype(int) - frames_of(expected)).mean() < (1 if speed == "exact" else 4)


def test_a_clip_that_had_enough_says_nothing_of_the_one_before(host):
    unet, calls = host.shared.sd_model.model.diffusion_model, []

    def once(module, args):
        calls.append(len(args[0]))
        if len(calls) == 1:
            raise MemoryError

    handle = unet.register_forward_pre_hook(once)
    try:
        answer = animate(host, {**CLIP, "video_length": 4}, n_iter=2)
    finally:
        handle.remove()
    short = ["AnimateDiff memory" in text for text in answer.info["infotexts"]]
    assert short[0] and not short[-1] and calls == [8, 4, 4, 4, 4, 4, 4, 8, 8, 8]


def test_keys_of_a_shared_prompt_are_computed_once(host):
    unet, rows = host.shared.sd_model.model.diffusion_model, []
    layer = next(part for name, part in unet.named_modules() if name.endswith("attn2.to_k"))
    plain = layer.forward
    layer.forward = lambda x: rows.append(len(x)) or plain(x)
    try:
        frames_of(animate(host, {**CLIP, "video_length": 4}))
    finally:
        del layer.forward
    assert rows == [2] * 3, "of 8: prompt and negative prompt"


@pytest.mark.parametrize("value, asked, most", [
    (2, {}, 16), (2, {"windows_per_call": 3}, 24), slow(2.0, {}, 16), ("two", {}, 8), slow(-1, {}, 8), slow(99, {}, 8),
    slow(None, {}, 8)], ids=str)
def test_a_request_comes_before_the_setting_and_what_is_no_number_counts_as_none(host, monkeypatch, value, asked, most):
    monkeypatch.setitem(host.opts.data, OPTION, value)
    with memory(host, 1000) as calls:
        animate(host, {**CLIP, **asked})
    assert max(calls) == most
