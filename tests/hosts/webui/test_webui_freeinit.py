"""FreeInit and the kinds of noise, in the real WebUI. RUN_SLOW=1: with every sampler."""
from __future__ import annotations

import base64
import io
import threading
import time

import numpy as np
import pytest
from clip_reading import assert_one_clip, stills
from PIL import Image
from test_webui_generation import EIGHT, EULER, FRAMES, PROMPT, strangers

TWICE = {**FRAMES, "freeinit_iterations": 2}
SHORT = {"prompt": PROMPT, "seed": 2, "steps": 6, "sampler_name": "Euler"}
QUICK = ("Euler", "DPM++ SDE", "Restart", "DDIM CFG++", "UniPC")
SAMPLERS = {"Euler": 20, "Euler a": 20, "Heun": 12, "LMS": 20, "DPM2": 12, "DPM2 a": 12, "DPM++ 2M": 20,
            "DPM++ SDE": 12, "DPM++ 2M SDE": 20, "DPM++ 2M SDE Heun": 20, "DPM++ 2S a": 12, "DPM++ 3M SDE": 30,
            "DPM fast": 30, "DPM adaptive": 4, "Restart": 20, "DDIM": 20, "DDIM CFG++": 20, "PLMS": 20, "UniPC": 20}
UNSTABLE = ("LMS", "PLMS")  # with so few steps, these break single pictures of the demo model too


def watched(host, answer):
    """Return the frames of `answer()`, and the number of UNet calls."""
    host.watch()
    made = answer()
    return stills(made), len(host.unet_calls())


@pytest.mark.parametrize("sampler", [s if s in QUICK else pytest.param(s, marks=pytest.mark.slow) for s in SAMPLERS])
def test_samplers(host, sampler):
    """The second iteration is a whole pass, and its result is a coherent clip."""
    fields = {"prompt": PROMPT, "seed": 2, "sampler_name": sampler, "steps": SAMPLERS[sampler]}
    once, calls = watched(host, lambda: host.txt2img(FRAMES, **fields))
    twice, more = watched(host, lambda: host.txt2img(TWICE, **fields))
    assert more == 2 * calls or (sampler == "DPM adaptive" and more > calls)
    assert (once != twice).any()
    if sampler not in UNSTABLE:
        assert_one_clip(twice, strangers(host, **fields))


@pytest.mark.parametrize(("name", "settings", "fields"), [
    ("fast", {"freeinit_fast": True}, {}), ("windows", {"video_length": 12, "overlap": 3}, {}),
    ("gaussian", {"freeinit_filter": "gaussian", "freeinit_iterations": 3}, {}),
    ("a schedule in the prompt", {"freeinit_fast": True},
     {"prompt": "a [red|orange] [square:circle:0.5] moving right"}),
    ("AND", {}, {"prompt": f"{PROMPT} AND a red circle :0.4"}), ("noise in each step", {}, {"sampler_name": "Euler a"}),
    ("travel", {"freeinit_fast": True}, {"prompt": "0: a red circle at rest\n4: a [red:blue:0.5] circle at rest"}),
    ("Hires. fix", {}, {"enable_hr": True, "hr_scale": 1.5, "hr_upscaler": "Latent", "denoising_strength": 0.6,
                        "hr_second_pass_steps": 3}),
    ("a variation", {"noise": "FreeNoise", "video_length": 12, "overlap": 3}, {"subseed": 5, "subseed_strength": 0.3}),
    ("NV", {"noise": "FreeNoise", "video_length": 12}, {"override_settings": {"randn_source": "NV"}}),
    ("ENSD", {}, {"override_settings": {"eta_noise_seed_delta": 31337}, "sampler_name": "Euler a"}),
    ("half the calls", {}, {"override_settings": {"batch_cond_uncond": False}}),
], ids=lambda value: value if isinstance(value, str) else "")  # fmt: skip
def test_what_else_a_clip_can_be(host, name, settings, fields):
    fields = {**EULER, "prompt": PROMPT, **fields}
    frames = stills(host.txt2img({**TWICE, **settings}, **fields))
    assert len(frames) == settings.get("video_length", 8)
    assert_one_clip(frames, strangers(host, **EULER))


def test_the_same_seed_makes_the_same_clip(host):
    fields = {**SHORT, "sampler_name": "Euler a"}
    one, again, other = (stills(host.txt2img(TWICE, **{**fields, "seed": seed})) for seed in (2, 2, 3))
    assert (one == again).all() and (one != other).any()


def test_the_older_clients_names(host):
    theirs = {"freeinit_enable": True, "freeinit_filter": "gaussian", "freeinit_ds": 0.3, "freeinit_dt": 0.2,
              "freeinit_iters": 2}
    ours = {"freeinit_iterations": 2, "freeinit_filter": "gaussian", "freeinit_d_s": 0.3, "freeinit_d_t": 0.2}
    answer = host.txt2img({**FRAMES, **theirs}, **SHORT)
    assert (stills(answer) == stills(host.txt2img({**FRAMES, **ours}, **SHORT))).all()
    assert "freeinit_iterations: 2, freeinit_filter: gaussian, freeinit_d_s: 0.3" in answer.info["infotexts"][0]
    off = stills(host.txt2img({**FRAMES, **theirs, "freeinit_enable": False}, **SHORT))
    assert (off == stills(host.txt2img(FRAMES, **SHORT))).all()


def test_the_second_pass_is_sampled_once(host):
    fields = {**SHORT, "enable_hr": True, "hr_scale": 1.5, "hr_upscaler": "Latent", "hr_second_pass_steps": 4,
              "denoising_strength": 0.6}
    host.watch()
    frames = stills(host.txt2img({**FRAMES, "freeinit_iterations": 3}, **fields))
    sizes = [call["size"][0] for call in host.unet_calls()]
    assert frames.shape == (8, 96, 96, 3) and sizes == [8] * 18 + [12] * 4


def test_the_preflight_counts_what_is_called(host):
    for settings, sampler in (({}, "Euler"), ({"freeinit_fast": True}, "Heun"), ({"video_length": 14}, "DDIM")):
        asked = {**FRAMES, "freeinit_iterations": 3, **settings}
        _, calls = watched(host, lambda: host.txt2img(asked, **{**SHORT, "sampler_name": sampler}))
        told = host.post("/animatediff/v1/preflight", {
            **SHORT, "sampler_name": sampler, "alwayson_scripts": {"AnimateDiff": {"args": [asked]}}}).expect().body
        assert told["unet_calls"] == calls


def test_the_refiner_comes_in_every_iteration(host):
    """Its switch at the very end hardly changes a clip if every iteration begins with the first checkpoint."""
    fields = {**EULER, "prompt": PROMPT}
    plain, half, late = (stills(host.txt2img(TWICE, **fields, **more)).astype(float) for more in (
        {}, {"refiner_checkpoint": "second", "refiner_switch_at": 0.5},
        {"refiner_checkpoint": "second", "refiner_switch_at": 0.95}))
    assert 0 < np.abs(late - plain).mean() < np.abs(half - plain).mean() / 2


# -- from a picture ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["Euler", "DDIM", "DPM++ 2M", "UniPC", "DPM fast"])
@pytest.mark.parametrize("fast", [False, True])
def test_img2img(host, sampler, fast):
    source = host.txt2img(prompt=PROMPT, seed=2, steps=8).images[:1]
    fields = {**EULER, "prompt": PROMPT, "sampler_name": sampler, "denoising_strength": 0.75}
    frames = stills(host.img2img(source, {**TWICE, "freeinit_fast": fast}, **fields))
    assert len(frames) == 8
    assert_one_clip(frames, strangers(host, **EULER))


@pytest.mark.parametrize("sampler", ["Euler", "DDIM"])
def test_img2img_at_little_strength_stays_with_the_picture(host, sampler):
    """Neither washed out nor oversaturated after three iterations."""
    source = host.txt2img(prompt="a blue square on a white background", seed=3, steps=20).images[:1]
    picture = np.array(Image.open(io.BytesIO(base64.b64decode(source[0]))).convert("RGB")).astype(float)
    fields = {"prompt": "a blue square on a white background", "seed": 2, "steps": 20, "sampler_name": sampler,
              "denoising_strength": 0.3}
    once, thrice = (stills(host.img2img(source, {**FRAMES, "freeinit_iterations": n}, **fields)).astype(float)
                    for n in (1, 3))
    assert np.abs(once - picture).mean() < 20 and np.abs(thrice - picture).mean() < 20
    assert abs(thrice.mean() - once.mean()) < 10


def test_img2img_with_a_mask_changes_only_what_is_masked(host):
    source = host.txt2img(prompt="a blue square on a white background", seed=3, steps=8).images[0]
    mask, out = Image.new("L", (64, 64), 0), io.BytesIO()
    mask.paste(255, (32, 0, 64, 64))
    mask.save(out, "PNG")
    frames = stills(host.img2img([source], TWICE, prompt=PROMPT, steps=6,
                                 mask=base64.b64encode(out.getvalue()).decode(), mask_blur=0, inpainting_fill=1,
                                 inpaint_full_res=False))
    assert np.ptp(frames[:, :, :24].astype(int), axis=0).max() <= 2, "the same left of the mask in every frame"


# -- stopped, failed, watched ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["interrupt", "skip"])
@pytest.mark.parametrize("sampler", ["Euler", "DDIM"])
def test_stopped_in_the_second_iteration_the_clip_is_the_first_ones(host, kind, sampler):
    fields = {**SHORT, "sampler_name": sampler}
    alone, calls = watched(host, lambda: host.txt2img(FRAMES, **fields))
    host.fault(kind, call=calls + 3)
    answer = host.txt2img({**FRAMES, "freeinit_iterations": 3}, **fields)
    assert (stills(answer) == alone).all()
    assert "1 of 3 FreeInit iterations done" in answer.info["infotexts"][0]
    assert "interrupted after 1 of 3 FreeInit iterations" in answer.info["extra_generation_params"]["AnimateDiff notes"]


@pytest.mark.parametrize("kind", ["RuntimeError", "OutOfMemory"])
def test_an_error_in_the_second_iteration(host, kind):
    host.fault(kind, call=8)
    answer = host.txt2img(TWICE, **SHORT)
    assert answer.status == 500
    assert len(stills(host.txt2img(TWICE, **SHORT))) == 8


def test_progress_counts_all_iterations_and_previews_go_on(host):
    results = {}

    def ask():
        results["clip"] = host.txt2img({**EIGHT, "video_length": 12, "overlap": 2, "freeinit_iterations": 3},
                                       **{**SHORT, "steps": 8})

    thread = threading.Thread(target=ask)
    thread.start()
    seen, texts, previews = [], set(), {}
    while thread.is_alive():
        body = host.get("/sdapi/v1/progress").expect().body
        seen.append(body["progress"])
        texts.add(str(body.get("textinfo")))
        iteration = str(body.get("textinfo")).partition("iteration ")[2][:1]
        previews.setdefault(iteration, set()).add(body.get("current_image"))
        time.sleep(0.05)
    thread.join()
    results["clip"].expect()
    running = [p for p in seen if p > 0]
    assert running == sorted(running), "progress goes back"
    assert {text.partition(", ")[0] for text in texts} >= {f"AnimateDiff: iteration {i} of 3" for i in (1, 2, 3)}
    assert len(previews["2"] - {None}) >= 2 and len(previews["3"] - {None}) >= 2, "the preview stands still"


# -- noise -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["CPU", "GPU", "NV"])
def test_free_noise_is_shuffled_by_the_seeds_of_the_frames(host, source):
    """The WebUI draws each frame's noise from its seed alone.

    With one frame per window, frames of one seed are the same picture.
    """
    override = {"override_settings": {"randn_source": source}}
    settings = {**FRAMES, "noise": "FreeNoise", "video_length": 10, "batch_size": 4, "overlap": 1}
    answer = host.txt2img(settings, **SHORT, **override)
    seeds = answer.info["all_seeds"]
    assert seeds[:4] == [2, 3, 4, 5] and sorted(seeds[4:7]) == [2, 3, 4] and sorted(seeds[3:7]) == sorted(seeds[6:10])
    assert (stills(answer) == stills(host.txt2img(settings, **SHORT, **override))).all()
    alone = {**FRAMES, "video_length": 4, "batch_size": 1, "overlap": 0, "context_schedule": "batched"}
    same = stills(host.txt2img({**alone, "noise": "FreeNoise"}, **SHORT, **override))
    assert (same == same[0]).all(), "the first window is one frame"
    assert (stills(host.txt2img(alone, **SHORT, **override))[0] == same[0]).all()


@pytest.mark.parametrize("kind", ["constant", "repeated context", "FreeNoise"])
def test_a_variations_noise_goes_the_same_ways(host, kind):
    settings = {**FRAMES, "noise": kind, "video_length": 6, "batch_size": 1,
                "overlap": 0, "context_schedule": "batched"}
    frames = stills(host.txt2img(settings, **{**SHORT, "sampler_name": "Euler a"}, subseed=5, subseed_strength=0.4))
    assert (frames == frames[0]).all()
