"""Prompt travel in the real WebUI."""
from __future__ import annotations

import numpy as np
import pytest
from clip_reading import stills
from test_webui_generation import EIGHT, EULER, FRAMES

RED, BLUE = "a red circle at rest", "a blue circle at rest"
HELD = f"0: {RED}\n4: {BLUE}"


def blueness(frames: np.ndarray) -> np.ndarray:
    """Return the mean of blue less red, -1 to 1, of each frame's coloured pixels."""
    x = frames.astype(float) / 255
    coloured = np.ptp(x, axis=3) > 0.3
    return np.array([(frame[mask][:, 2] - frame[mask][:, 0]).mean() if mask.any() else np.nan
                     for frame, mask in zip(x, coloured)])


def near(frames: np.ndarray, others: np.ndarray) -> float:
    """Return the largest mean difference of frames that should be the same, of 255."""
    return float(np.abs(frames.astype(float) - others).mean((1, 2, 3)).max())


def clip(host, **fields):
    settings = {**FRAMES, **fields.pop("settings", {})}
    return stills(host.txt2img(settings, **{**EULER, **fields}))


@pytest.mark.parametrize("prompt", [
    HELD, f'"0": "{RED}", "max_f/2": "{BLUE}"', "a {@" + "|".join(["red"] * 4 + ["blue"] * 4) + "} circle at rest",
    f"0: {RED}\n4: {BLUE}\nwhite background"], ids=["native", "fizz", "cyclic", "tail"])
def test_a_colour_that_is_cut_changes_at_the_key_frame(host, prompt):
    frames = clip(host, prompt=prompt, settings={"travel_interpolation": "hold"})
    found = blueness(frames)
    assert np.nanmax(found[:2]) < 0 < np.nanmin(found[6:]), found.round(2)


def test_without_motion_each_frame_would_be_its_own_prompts(host):
    """One window of one frame is the host's own picture of the frame's prompt and seed, except for the noise schedule.

    Therefore both are made with a clip's schedule, one prompt at a time.
    """
    cut = {"travel_interpolation": "hold", "batch_size": 1, "overlap": 0, "context_schedule": "batched"}
    frames = clip(host, prompt=HELD, settings=cut)
    red, blue = (clip(host, prompt=text, settings=cut) for text in (RED, BLUE))
    assert near(frames[:4], red[:4]) < 1 and near(frames[4:], blue[4:]) < 1


def test_between_two_key_frames_the_prompt_is_mixed(host):
    frames = clip(host, prompt=f"0: {RED}\n7: {BLUE}")
    assert near(frames[3:5], clip(host, prompt=RED)[3:5]) > 1 and near(frames[3:5], clip(host, prompt=BLUE)[3:5]) > 1
    found = blueness(frames)
    assert found[0] < 0 < found[-1]


def test_the_negative_prompt_travels(host):
    plain, travelling = (clip(host, prompt="a circle at rest", negative_prompt=negative,
                              settings={"travel_interpolation": "hold"})
                         for negative in ("red", "0: red\n4: blue, green"))
    assert near(plain, travelling) > 1


@pytest.mark.parametrize("fields", [
    {"prompt": f"0: {RED} AND white background :0.3\n4: {BLUE}"}, {"prompt": f"0: {RED}\n4: a [red:blue:0.3] circle"},
    {"prompt": f"0: {RED}\n4: {', '.join([BLUE] * 16)}"},
    {"prompt": HELD, "negative_prompt": ", ".join(["green"] * 80)},
    {"prompt": HELD, "override_settings": {"batch_cond_uncond": False}}, {"prompt": HELD, "cfg_scale": 1},
    {"prompt": HELD, "settings": {"video_length": 14, "overlap": 2, "closed_loop": "R+P"}},
    {"prompt": HELD, "refiner_checkpoint": "second", "refiner_switch_at": 0.5},
    {"prompt": HELD, "sampler_name": "DDIM"}, {"prompt": HELD, "n_iter": 2},
    {"prompt": HELD, "enable_hr": True, "hr_scale": 1.5, "hr_upscaler": "Latent", "hr_second_pass_steps": 4,
     "denoising_strength": 0.6},
    {"prompt": HELD, "enable_hr": True, "hr_scale": 1.5, "hr_upscaler": "Latent", "hr_second_pass_steps": 4,
     "denoising_strength": 0.6,
     "hr_prompt": f"0: {RED}\n6: {BLUE}", "hr_sampler_name": "Euler a"},
], ids=lambda f: str(f)[-70:])  # fmt: skip
def test_what_else_a_prompt_can_be(host, fields):
    frames = clip(host, **{**fields, "steps": 8})
    assert len(frames) == fields.get("settings", {}).get("video_length", 8) * fields.get("n_iter", 1)
    assert frames.std() > 5 and np.abs(frames[0].astype(float) - frames[6]).mean() > 0.5


def test_img2img(host):
    source = host.txt2img(prompt=RED, seed=2, steps=8).images[:1]
    frames = stills(host.img2img(source, {**FRAMES, "travel_interpolation": "hold"}, prompt=HELD, seed=2, steps=12,
                                 denoising_strength=0.9, sampler_name="Euler"))
    assert len(frames) == 8 and blueness(frames)[6:].min() > blueness(frames)[:2].max()


def test_the_infotext_has_the_prompt_as_written(host):
    answer = host.txt2img({**EIGHT, "travel_easing": "ease-in"}, prompt=HELD, **{**EULER, "steps": 2}).expect()
    text = answer.info["infotexts"][0]
    assert text.startswith(HELD + "\n") and "travel_easing: ease-in" in text


@pytest.mark.parametrize(("prompt", "said"), [("0: a\nb\n3: c", "prompt, line 2, column 1"),
                                              ('"0": "`1+`"', "computed")])
def test_what_cannot_be_read_is_a_422(host, prompt, said):
    answer = host.txt2img(EIGHT, prompt=prompt)
    assert answer.status == 422 and said in answer.detail
    told = host.post("/animatediff/v1/preflight", {"prompt": prompt,
                                                   "alwayson_scripts": {"AnimateDiff": {"args": [EIGHT]}}})
    assert any(said in problem for problem in told.expect().body["problems"])


def test_the_schedule_before_the_run(host):
    told = host.post("/animatediff/v1/schedule", {"prompt": HELD,
                                                  "settings": {"frames": 8}, "to": "fizz"}).expect().body
    assert told["prompt"]["rows"][0]["prompts"] == [{"text": RED, "weight": 1.0}]
    assert told["converted"][0].startswith(f'"0": "{RED}"')
    assert host.post("/animatediff/v1/schedule", {"prompt": "0: a\n0: b"}).status == 422
    assert host.post("/animatediff/v1/schedule", {"promt": "a"}).status == 422
