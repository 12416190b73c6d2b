"""Loops, their score and the seam repair, in the stand-in for the WebUI."""
from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from slow_cases import slow
from test_standin_adapter import animate, error, failing, frames_of, host, library, plain, snapshot  # noqa: F401

FRAMES = {"video_length": 5, "batch_size": 4, "overlap": 1, "returns": "frames"}  # the seam's window: 3 4 0 1
WAYS = [{"sampler_name": "Euler"}, {"sampler_name": "Euler a"}, {"sampler_name": "Heun"}, {"sampler_name": "DDIM"}]


def unet_calls(host):
    count = [0]
    handle = host.shared.sd_model.model.diffusion_model.register_forward_pre_hook(
        lambda *_: count.__setitem__(0, count[0] + 1))
    return count, handle


def changed(a, b):
    return [i for i in range(len(a)) if (a[i] != b[i]).any()]


@pytest.mark.parametrize("tab, way", [("txt2img", WAYS[0]), *(slow("txt2img", way) for way in WAYS[1:3]),
                                      slow("txt2img", WAYS[3]), slow("img2img", WAYS[1])], ids=str)
def test_a_repair_changes_the_frames_around_the_seam_and_no_others(host, way, tab):
    from animatediff.hosts.a1111.run_facts import of_run
    from animatediff.settings import parse

    fields = {"steps": 4, **way}
    if tab == "img2img":
        fields |= {"init_images": [Image.new("RGB", (64, 64), "red")], "denoising_strength": 0.7}
    without = frames_of(animate(host, FRAMES, tab, **fields))
    wanted, before = plain(host), snapshot(host)
    count, handle = unet_calls(host)
    answer = animate(host, {**FRAMES, "seam_repair": 0.5}, tab, **fields)
    handle.remove()
    repaired = frames_of(answer)
    assert changed(without, repaired) == [0, 4]
    assert plain(host) == wanted and snapshot(host) == before
    told = of_run(parse({**FRAMES, "seam_repair": 0.5}),
                  {"steps": 4, "sampler": way["sampler_name"], "strength": fields.get("denoising_strength")},
                  from_picture=tab == "img2img")
    assert told.calls == count[0]


@pytest.mark.slow
def test_hires_fix_is_repaired_in_its_second_pass_alone(host):
    fields = dict(enable_hr=True, hr_upscaler="Latent", hr_second_pass_steps=2, steps=2, denoising_strength=0.6)
    without = frames_of(animate(host, FRAMES, **fields))
    seen = []
    handle = host.shared.sd_model.model.diffusion_model.register_forward_pre_hook(
        lambda module, args: seen.append((args[0].shape[-1], args[0].shape[0])))
    repaired = frames_of(animate(host, {**FRAMES, "seam_repair": 0.5}, **fields))
    handle.remove()
    assert changed(without, repaired) == [0, 4]
    sizes = [size for size, _ in seen]
    assert sizes == sorted(sizes), "the first pass is not touched again"


@pytest.mark.parametrize("what", ["interrupt", slow("skip")])
def test_an_interrupted_repair_leaves_the_finished_clip(host, what):
    without = frames_of(animate(host, FRAMES, steps=3))
    count, handle = unet_calls(host)
    animate(host, FRAMES, steps=3)
    handle.remove()
    before = snapshot(host)
    failing(host, count[0] + 2, getattr(host.state, what))
    answer = animate(host, {**FRAMES, "seam_repair": 0.8}, steps=3)
    assert changed(without, frames_of(answer)) == []
    assert "steps done" not in answer.info["infotexts"][0]
    assert snapshot(host) == before


def test_an_error_in_a_repair_is_undone(host):
    count, handle = unet_calls(host)
    animate(host, FRAMES, steps=3)
    handle.remove()
    wanted, before = plain(host), snapshot(host)
    failing(host, count[0] + 2, error)
    assert animate(host, {**FRAMES, "seam_repair": 0.8}, steps=3).status == 500
    assert plain(host) == wanted and snapshot(host) == before


def test_the_score_is_in_the_infotext_and_the_notes(host):
    answer = animate(host, {"video_length": 6, "closed_loop": "seamless", "returns": "frames"}, steps=4)
    x = frames_of(answer).astype(float)
    steps, seam = np.abs(np.diff(x, axis=0)).mean((1, 2, 3)), np.abs(x[-1] - x[0]).mean()
    expected = seam / max(np.median(steps), 0.25)
    assert f"AnimateDiff loop score: {expected:.2f}" in answer.info["infotexts"][0]
    [note] = answer.info["extra_generation_params"]["AnimateDiff notes"]
    assert note.startswith(f"loop score {expected:.2f} (seam {seam:.2f}, median step ")
    quiet = animate(host, {"video_length": 6}, steps=2)
    assert "loop score" not in quiet.info["infotexts"][0]
    assert not quiet.info["extra_generation_params"]["AnimateDiff notes"]


@pytest.mark.slow
def test_ping_pong_plays_to_and_fro_whatever_the_length(host):
    there = frames_of(animate(host, FRAMES, steps=2))
    answer = animate(host, {**FRAMES, "closed_loop": "ping-pong", "seam_repair": 0.5}, steps=2)
    both = frames_of(answer)
    assert len(both) == 8 and (both == there[[0, 1, 2, 3, 4, 3, 2, 1]]).all()
    clip = animate(host, {**FRAMES, "closed_loop": "ping-pong", "returns": "clip"}, steps=2)
    assert Image.open(io.BytesIO(clip.images[0])).n_frames == 8


@pytest.mark.slow
def test_a_clip_of_one_window_is_closed_from_within(host):
    count, handle = unet_calls(host)
    shapes = frames_of(animate(host, {"video_length": 6, "closed_loop": "seamless", "returns": "frames"}, steps=3))
    handle.remove()
    assert len(shapes) == 6 and count[0] == 2 * 3
