"""Every way to generate in the WebUI makes one coherent clip, with no setting that a user must know."""
from __future__ import annotations

import base64
import io
import os

import numpy as np
import pytest
import torch
from clip_reading import assert_one_clip, clip, items, stills, unrelated
from PIL import Image
from safetensors.torch import load_file, save_file

PROMPT = "a red circle moving right"
LONG = ", ".join([PROMPT] * 16)  # 95 tokens: two chunks
EIGHT = {"enable": True, "model": "motion.safetensors", "video_length": 8, "batch_size": 8, "fps": 8, "format": ["GIF"]}
FRAMES = {**EIGHT, "returns": "frames"}
# Usual numbers of steps: with fewer, single pictures of the demo model break as well.
EULER = {"sampler_name": "Euler", "steps": 20, "seed": 2}


def strangers(host, **fields):
    """Return the difference, of 255, of pictures made without a motion module and with otherwise equal settings.

    The prompt describes a shape at rest, which may be anywhere. A shape that moves right always begins on the left.
    """
    fields = {"prompt": PROMPT, "batch_size": 6, **fields}
    return unrelated(stills(host.txt2img(**{**fields, "prompt": fields["prompt"].replace("moving right", "at rest")})))


@pytest.fixture(scope="module")
def stranger(clean_host):
    return strangers(clean_host, **EULER)


@pytest.mark.parametrize(("sampler", "scheduler", "steps"), [
    ("Euler", "Automatic", 20), ("Euler", "Karras", 20), ("Euler", "SGM Uniform", 20), ("Euler a", "Automatic", 20),
    ("Heun", "Automatic", 12), ("DPM2", "Karras", 12), ("DPM2 a", "Automatic", 12), ("LMS", "Exponential", 20),
    ("DPM++ 2M", "Karras", 20), ("DPM++ 2M", "Align Your Steps", 20), ("DPM++ SDE", "Karras", 12),
    ("DPM++ 2M SDE", "Exponential", 20), ("DPM++ 2M SDE Heun", "Automatic", 20), ("DPM++ 2S a", "Karras", 12),
    ("DPM++ 3M SDE", "Automatic", 30), ("DPM fast", "Automatic", 30), ("DPM adaptive", "Automatic", 4),
    ("Restart", "Automatic", 20), ("DDIM", "Automatic", 20), ("DDIM CFG++", "Automatic", 20),
    ("PLMS", "Automatic", 20), ("UniPC", "Automatic", 20), ("Euler", "Beta", 20), ("Euler", "KL Optimal", 20),
    ("Euler", "Simple", 20),
])  # fmt: skip
def test_samplers_and_schedulers(host, sampler, scheduler, steps):
    fields = {"seed": 2, "sampler_name": sampler, "scheduler": scheduler, "steps": steps}
    frames = stills(host.txt2img(FRAMES, prompt=PROMPT, **fields))
    assert len(frames) == 8
    assert_one_clip(frames, strangers(host, **fields))


def test_lcm_runs_with_a_module_that_is_none_and_says_so(host):
    answer = host.txt2img(FRAMES, prompt=PROMPT, seed=2, sampler_name="LCM", steps=4, cfg_scale=1)
    assert len(stills(answer)) == 8


@pytest.mark.parametrize("fields", [
    {"prompt": f"{PROMPT} AND a red circle :0.4"},
    {"prompt": f"{PROMPT} BREAK white background"},
    {"prompt": "a red [square:circle:0.5] moving right"},
    {"prompt": "a [red|orange] circle moving right"},
    {"prompt": "a (red:1.2) circle moving right"},
    {"prompt": LONG, "negative_prompt": "blue"},
    {"prompt": PROMPT, "negative_prompt": LONG.replace("red", "blue")},
    {"prompt": f"{PROMPT} :0.5 AND {LONG} :0.5", "negative_prompt": "blue"},
    {"prompt": LONG, "override_settings": {"pad_cond_uncond": True}},
    {"prompt": LONG, "override_settings": {"pad_cond_uncond": False}},
    {"prompt": LONG, "override_settings": {"pad_cond_uncond_v0": True}},
    {"prompt": LONG, "override_settings": {"batch_cond_uncond": False}},
    {"prompt": PROMPT, "override_settings": {"batch_cond_uncond": False}},
    {"s_min_uncond": 30.0},
    {"override_settings": {"skip_early_cond": 0.3}},
    {"s_min_uncond": 30.0, "override_settings": {"s_min_uncond_all": True}},
    {"s_min_uncond": 30.0, "negative_prompt": LONG.replace("red", "blue")},
    {"cfg_scale": 1},
    {"override_settings": {"use_downcasted_alpha_bar": True}},
    {"override_settings": {"token_merging_ratio": 0.5}},
    {"override_settings": {"eta_ddim": 1.0}, "sampler_name": "DDIM"},
    {"override_settings": {"CLIP_stop_at_last_layers": 2}},
    {"tiling": True},
    {"subseed": 5, "subseed_strength": 0.3},
    {"width": 96, "height": 64},
], ids=lambda f: str(f)[-80:])  # fmt: skip
def test_prompts_and_options(host, fields):
    fields = {"prompt": PROMPT, **EULER, **fields}
    frames = stills(host.txt2img(FRAMES, **fields))
    assert frames.shape == (8, 64, fields.get("width", 64), 3)
    assert_one_clip(frames, strangers(host, **fields))


@pytest.mark.parametrize("upscaler", ["Latent", "Latent (nearest-exact)", "Lanczos"])
def test_hires_fix_moves_in_windows_too(host, stranger, upscaler):
    host.watch()
    answer = host.txt2img({**FRAMES, "video_length": 10}, prompt=PROMPT, **EULER, enable_hr=True, hr_scale=1.5,
                          hr_upscaler=upscaler, denoising_strength=0.6, hr_second_pass_steps=3)
    calls = host.unet_calls()
    frames = stills(answer)
    assert frames.shape == (10, 96, 96, 3)
    assert {tuple(call["size"]) for call in calls} == {(8, 8), (12, 12)}
    assert max(call["rows"] for call in calls) == 2 * 8, "a window of 8 in two roles, in both passes"
    assert_one_clip(frames, stranger)


def test_hires_fix_with_its_own_sampler(host, stranger):
    frames = stills(host.txt2img(FRAMES, prompt=PROMPT, **EULER, enable_hr=True, hr_scale=1.5, hr_upscaler="Latent",
                                 denoising_strength=0.6, hr_second_pass_steps=3, hr_sampler_name="Euler"))
    assert_one_clip(frames, stranger)


@pytest.mark.parametrize(("loop", "schedule"), [("N", "uniform"), ("A", "uniform"), ("R+P", "uniform"),
                                                ("N", "uniform standard"), ("N", "static standard")])
def test_a_long_clip_of_several_windows(host, stranger, loop, schedule):
    host.watch()
    settings = {**FRAMES, "video_length": 14, "overlap": 3, "closed_loop": loop, "context_schedule": schedule}
    frames = stills(host.txt2img(settings, prompt=PROMPT, **EULER))
    calls = host.unet_calls()
    assert len(frames) == 14
    assert max(call["rows"] for call in calls) == 16 and len(calls) >= 6 * 2
    assert_one_clip(frames, stranger)


def test_fewer_frames_than_the_context_are_what_is_computed(host):
    host.watch()
    answer = host.txt2img({**FRAMES, "video_length": 6, "batch_size": 16}, prompt=PROMPT, seed=2)
    assert {call["rows"] for call in host.unet_calls()} == {12}
    assert len(stills(answer)) == 6


def test_zero_frames_are_as_many_as_the_context(host):
    assert len(stills(host.txt2img({**FRAMES, "video_length": 0, "batch_size": 5}, steps=2))) == 5


def test_batch_count_makes_several_clips(host, stranger):
    answer = host.txt2img(EIGHT, prompt=PROMPT, **EULER, n_iter=2)
    both = [item for item in items(answer) if item.plays]
    assert [len(item.frames) for item in both] == [8, 8]
    first = clip(host.txt2img(EIGHT, prompt=PROMPT, **EULER))
    second = clip(host.txt2img(EIGHT, prompt=PROMPT, **{**EULER, "seed": 2 + 8}))
    assert both[0].raw[-2000:] == first.raw[-2000:] and (both[0].frames == first.frames).all()
    assert (both[1].frames == second.frames).all(), "the second clip's seeds go on after the first's"
    assert_one_clip(both[1].frames, stranger)


def test_the_hosts_batch_size_does_not_matter(host):
    a = stills(host.txt2img(FRAMES, seed=2, batch_size=1, steps=2))
    b = stills(host.txt2img(FRAMES, seed=2, batch_size=3, steps=2))
    assert (a == b).all()


@pytest.mark.parametrize("sampler", ["DDIM", "Euler", "Heun", "DPM++ 2M", "UniPC"])
def test_img2img_of_one_picture(host, stranger, sampler):
    source = host.txt2img(prompt=PROMPT, seed=2, steps=8).images[:1]
    frames = stills(host.img2img(source, FRAMES, prompt=PROMPT, seed=2, denoising_strength=0.75, steps=8,
                                 sampler_name=sampler))
    assert len(frames) == 8
    assert_one_clip(frames, stranger)


def test_img2img_of_several_pictures_keeps_their_order(host):
    def picture(x: int) -> str:
        image = Image.new("RGB", (64, 64), "white")
        image.paste((220, 40, 40), (x, 26, x + 14, 40))
        out = io.BytesIO()
        image.save(out, "PNG")
        return base64.b64encode(out.getvalue()).decode()

    frames = stills(host.img2img([picture(4 + 7 * i) for i in range(7)], {**FRAMES, "video_length": 0}, prompt=PROMPT,
                                 denoising_strength=0.2, steps=10))
    assert len(frames) == 7
    red = [np.average(np.arange(64), weights=np.clip(f[..., 0].astype(float) - f[..., 2], 0, None).sum(0) + 1e-9)
           for f in frames]
    assert np.all(np.diff(red) > 0), f"centres {red}"


def test_img2img_with_a_mask_changes_only_what_is_masked(host):
    source = host.txt2img(prompt="a blue square on a white background", seed=3, steps=8).images[0]
    mask = Image.new("L", (64, 64), 0)
    mask.paste(255, (32, 0, 64, 64))
    out = io.BytesIO()
    mask.save(out, "PNG")
    answer = host.img2img([source], FRAMES, prompt=PROMPT, steps=6, mask=base64.b64encode(out.getvalue()).decode(),
                          mask_blur=0, inpainting_fill=1, inpaint_full_res=False)
    frames = stills(answer)
    assert len(frames) == 8
    assert np.ptp(frames[:, :, :24].astype(int), axis=0).max() <= 2, "the same left of the mask in every frame"


def test_refiner(host, stranger):
    frames = stills(host.txt2img(FRAMES, prompt=PROMPT, **EULER, refiner_checkpoint="second", refiner_switch_at=0.5))
    alone = stills(host.txt2img(FRAMES, prompt=PROMPT, **EULER))
    assert (frames != alone).any()
    assert_one_clip(frames, stranger)


def test_checkpoint_of_the_request(host, stranger):
    asked = host.txt2img(FRAMES, prompt=PROMPT, **EULER, override_settings={"sd_model_checkpoint": "second"})
    frames = stills(asked)
    assert asked.info["sd_model_name"] == "second"
    assert_one_clip(frames, stranger)
    assert (frames != stills(host.txt2img(FRAMES, prompt=PROMPT, **EULER))).any()


def test_checkpoint_switched_in_the_settings(host, stranger):
    before = stills(host.txt2img(FRAMES, prompt=PROMPT, **EULER))
    host.options(sd_model_checkpoint="second.safetensors")
    second = stills(host.txt2img(FRAMES, prompt=PROMPT, **EULER))
    host.options(sd_model_checkpoint="demo.safetensors")
    again = stills(host.txt2img(FRAMES, prompt=PROMPT, **EULER))
    assert (before == again).all() and (before != second).any()
    assert_one_clip(second, stranger)


def test_the_noise_schedule_of_the_module_is_in_force(host):
    """With the image model's schedule clips would be pale. The spread of values must be that of stills."""
    pictures = stills(host.txt2img(prompt=PROMPT, batch_size=4, seed=2, steps=10))
    frames = stills(host.txt2img(FRAMES, prompt=PROMPT, seed=2, steps=10))
    assert frames.std() > 0.6 * pictures.std()


def test_zero_terminal_snr_is_applied_to_the_modules_schedule(host):
    """The demo model was not trained for it, so the test only checks that the result differs."""
    without = stills(host.txt2img(FRAMES, prompt=PROMPT, **EULER))  # first, since this host keeps the override
    with_it = stills(host.txt2img(FRAMES, prompt=PROMPT, **EULER,
                                  override_settings={"sd_noise_schedule": "Zero Terminal SNR"}))
    assert (with_it != without).any() and len(with_it) == 8


def test_plain_requests_between_clips_wait_their_turn(host):
    """The host queues requests: a plain picture requested during a clip equals one made alone."""
    import threading

    alone = host.txt2img(prompt="a blue square", seed=9, steps=3).images
    results = {}

    def ask(name, call):
        results[name] = call()

    jobs = {"clip": lambda: host.txt2img(EIGHT, prompt=PROMPT, seed=2),
            "plain": lambda: host.txt2img(prompt="a blue square", seed=9, steps=3),
            "other clip": lambda: host.txt2img({**EIGHT, "video_length": 4}, prompt=PROMPT, seed=3, steps=2)}
    threads = [threading.Thread(target=ask, args=job) for job in jobs.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results["plain"].images == alone
    assert len(clip(results["clip"]).frames) == 8 and len(clip(results["other clip"]).frames) == 4


def test_the_same_seed_makes_the_same_clip(host):
    first, again, other = (host.txt2img(EIGHT, prompt=PROMPT, seed=seed, steps=2).images for seed in (2, 2, 3))
    assert first == again != other


def test_two_modules_that_were_used_are_not_read_again(host):
    """Each file is replaced by one with noise for weights and the same name, size and time."""
    first = host.motion / "first.safetensors"
    second = host.motion / "second.safetensors"
    weights = load_file(host.motion / "motion.safetensors")
    save_file(weights, first)
    save_file({key: value * 1.2 if "attention" in key else value for key, value in weights.items()}, second)

    def frames(path):
        return host.txt2img({**EIGHT, "model": path.name}, prompt=PROMPT, seed=2, steps=2).expect().images

    try:
        expected = [frames(first), frames(second)]
        for path in (first, second):
            other, time = path.with_suffix(".new"), path.stat().st_mtime_ns
            save_file({key: torch.randn(value.shape).to(value) for key, value in weights.items()}, other)
            os.utime(other, ns=(time, time))
            os.replace(other, path)
        found = [frames(first), frames(second)]
        os.utime(second)
        changed = frames(second)
    finally:
        first.unlink(), second.unlink()
    assert found == expected and expected[0] != expected[1] and changed not in expected
