"""Every row of the table of failures of other extensions, and injected faults.

After each case the fixture `host` compares the model, its schedule, the settings, and a plain txt2img and img2img
picture with those of a clean start, bit for bit.
"""
from __future__ import annotations

import json
import threading
import time

import pytest
from clip_reading import clip, items, stills
from safetensors.torch import load_file, save_file
from test_webui_generation import EIGHT, FRAMES, LONG, PROMPT


def refused(answer, *parts: str) -> None:
    """Assert HTTP 422 with problem, place and remedy, and no picture."""
    assert answer.status == 422, f"HTTP {answer.status}: {json.dumps(answer.body)[:600]}"
    for part in parts:
        assert part.lower() in answer.detail.lower(), answer.detail
    assert "images" not in answer.body


@pytest.mark.parametrize(("change", "parts"), [
    ({"format": ["AVI"]}, ("format", "AVI", "GIF")),
    ({"format": []}, ("format",)),
    ({"fps": 0.001}, ("fps", "0.01")),
    ({"fps": "fast"}, ("fps", "fast")),
    ({"video_length": -4}, ("video_length", "-4")),
    ({"batch_size": 64}, ("motion.safetensors", "32", "context")),
    ({"overlap": 8}, ("overlap", "context length")),
    ({"overlap": 20}, ("overlap", "context length")),
    ({"closed_loop": "maybe"}, ("closed_loop", "R-P")),
    ({"stride": 0}, ("stride", "1")),
    ({"model": "gone.ckpt"}, ("gone.ckpt",)),
    ({"model": "../../etc/passwd"}, ("passwd",)),
    ({"model": "/etc/passwd"}, ("passwd",)),
    ({"request_id": "../up"}, ("request_id",)),
    ({"lenght": 8}, ("lenght",)),
    ({"video_length": 8, "frames": 9}, ("frames",)),
    ({"interp": "RIFE"}, ("interp_model", "flownet.pkl")),
    ({"video_path": "/etc"}, ("video_path",)),
    ({"freeinit_enable": True, "freeinit_iters": 40}, ("freeinit_iters", "1 to 20")),
], ids=lambda c: str(c)[:60])  # fmt: skip
def test_bad_input_is_refused_with_a_message(host, files, change, parts):
    settings = {**EIGHT, **({"video_length": 70} if "batch_size" in change else {}), **change}
    refused(host.txt2img(settings, prompt=PROMPT), *parts)
    assert files() == []
    assert "Traceback" not in host.log()


@pytest.mark.parametrize("fields", [
    {"prompt": f"{PROMPT}\n0: a red circle\n30: a blue square"},  # a key frame beyond the clip
    {"prompt": LONG, "negative_prompt": "blue"},
    {"prompt": PROMPT, "negative_prompt": LONG},
    {"s_min_uncond": 100.0},
    {"s_min_uncond": 100.0, "prompt": LONG},
], ids=lambda f: str(f)[:60])  # fmt: skip
def test_what_ends_in_an_error_elsewhere_makes_a_clip_or_a_message(host, fields):
    answer = host.txt2img(EIGHT, **{"prompt": PROMPT, "seed": 2, **fields})
    if answer.status == 422:
        assert answer.detail
    else:
        assert len(clip(answer).frames) == 8


@pytest.mark.parametrize("kind", ["RuntimeError", "OutOfMemory"])
@pytest.mark.parametrize("fields", [
    {}, {"enable_hr": True, "hr_scale": 1.5, "hr_upscaler": "Latent", "denoising_strength": 0.7,
         "sampler_name": "Euler"},
    {"sampler_name": "Euler"},
], ids=["DDIM", "Hires. fix", "Euler"])  # fmt: skip
def test_an_error_while_sampling_poisons_nothing(host, kind, fields):
    wanted = host.txt2img(EIGHT, prompt=PROMPT, seed=2, steps=3, **fields).expect().images
    host.fault(kind, call=5 if "enable_hr" in fields else 2)
    failed = host.txt2img(EIGHT, prompt=PROMPT, seed=2, steps=3, **fields)
    assert failed.status == 500 and "on purpose" in json.dumps(failed.body)
    assert host.txt2img(EIGHT, prompt=PROMPT, seed=2, steps=3, **fields).expect().images == wanted


def test_an_error_in_img2img_and_then_a_plain_one(host):
    source = host.txt2img(prompt=PROMPT, seed=2).images[:1]
    host.fault("RuntimeError", call=2)
    assert host.img2img(source, EIGHT, prompt=PROMPT, sampler_name="Euler").status == 500
    host.img2img(source, prompt=PROMPT, steps=2).expect()


@pytest.mark.parametrize(("name", "edit"), [
    ("broken.safetensors", lambda raw: raw[:20_000]),
    ("empty.safetensors", lambda raw: b""),
    ("text.safetensors", lambda raw: b"<!DOCTYPE html><html>404</html>" * 40),
])
def test_a_file_that_is_no_motion_module_is_refused(host, name, edit):
    path = host.motion / name
    path.write_bytes(edit((host.motion / "motion.safetensors").read_bytes()))
    try:
        refused(host.txt2img({**EIGHT, "model": name}, prompt=PROMPT), name)
    finally:
        path.unlink()


def test_a_module_for_another_base_is_refused_by_name(host):
    path = host.motion / "wide.safetensors"
    module = load_file(host.motion / "motion.safetensors")
    save_file({k: v[..., :32].contiguous() if "pos_encoder" in k else
               v[tuple(slice(0, n // 2) for n in v.shape)].contiguous() for k, v in module.items()}, path)
    try:
        answer = host.txt2img({**EIGHT, "model": "wide.safetensors"}, prompt=PROMPT)
        refused(answer, "wide.safetensors")
    finally:
        path.unlink()


def test_an_image_checkpoint_in_the_folder_is_called_by_its_name(host):
    path = host.motion / "picture.safetensors"
    path.symlink_to(host.data / "models" / "Stable-diffusion" / "demo.safetensors")
    try:
        refused(host.txt2img({**EIGHT, "model": "picture.safetensors"}, prompt=PROMPT),
                "picture.safetensors", "checkpoint")
    finally:
        path.unlink()


def test_an_empty_folder_says_exactly_where_to_put_which_file(host, tmp_path):
    host.set_directly(animatediff_model_path=str(tmp_path))
    for model in ("", "mm.ckpt"):
        refused(host.txt2img({**EIGHT, "model": model}, prompt=PROMPT), str(tmp_path), "Put")


def test_a_request_cannot_point_the_folder_elsewhere(host, tmp_path):
    host.options(animatediff_model_path=str(tmp_path))
    host.txt2img(EIGHT, prompt=PROMPT, steps=1, sampler_name="Euler",
                 override_settings={"animatediff_model_path": str(tmp_path)}).expect()


@pytest.mark.parametrize("format", ["MP4", "WEBM"])
def test_a_video_format_without_an_encoder_is_refused_before_the_run(host, files, format):
    if host.has_pyav:
        pytest.skip("this WebUI's Python has an encoder; start it with WEBUI_EXTRA_PATH=/nowhere for this case")
    refused(host.txt2img({**EIGHT, "format": [format]}, prompt=PROMPT), format, "GIF")
    assert files() == []


# -- stopped by the user -----------------------------------------------------------------------------------------------


def test_interrupt_keeps_the_finished_steps_and_says_how_many(host, files):
    host.fault("interrupt", call=3)
    answer = host.txt2img({**EIGHT, "format": ["GIF", "PNG"]}, prompt=PROMPT, seed=2, steps=8)
    found = clip(answer)
    assert len(found.frames) == 8
    info = answer.info
    assert "2 of 7 steps" in info["infotexts"][0] or "of 8 steps" in info["infotexts"][0], info["infotexts"][0]
    assert any("interrupted" in note for note in info["extra_generation_params"]["AnimateDiff notes"])
    assert [p.suffix for p in files()].count(".gif") == 1


def test_interrupt_in_the_second_of_two_clips_keeps_the_first(host):
    host.fault("interrupt", call=6)
    answer = host.txt2img({**EIGHT, "video_length": 4}, prompt=PROMPT, seed=2, steps=4, n_iter=2, sampler_name="Euler")
    whole = clip(host.txt2img({**EIGHT, "video_length": 4}, prompt=PROMPT, seed=2, steps=4, sampler_name="Euler"))
    found = [item for item in items(answer) if item.plays]
    assert len(found) == 2 and (found[0].frames == whole.frames).all()
    assert "interrupted" not in answer.info["infotexts"][0] and "interrupted" in answer.info["infotexts"][1]


def test_interrupt_before_the_second_pass(host):
    host.fault("interrupt", call=2)
    answer = host.txt2img(EIGHT, prompt=PROMPT, seed=2, steps=4, enable_hr=True, hr_scale=1.5, hr_upscaler="Latent")
    assert clip(answer).frames.shape[1:3] == (64, 64)


def test_interrupt_in_the_second_pass(host):
    host.fault("interrupt", call=5)
    answer = host.txt2img(EIGHT, prompt=PROMPT, seed=2, steps=4, enable_hr=True, hr_scale=1.5, hr_upscaler="Latent",
                          denoising_strength=0.7)
    assert clip(answer).frames.shape[1:3] == (96, 96)
    assert "interrupted" in answer.info["infotexts"][0]


def test_skip_goes_on_to_the_next_clip(host):
    host.fault("skip", call=2)
    answer = host.txt2img({**EIGHT, "video_length": 4}, prompt=PROMPT, seed=2, steps=4, n_iter=2, sampler_name="Euler")
    alone = clip(host.txt2img({**EIGHT, "video_length": 4}, prompt=PROMPT, seed=2 + 4, steps=4, sampler_name="Euler"))
    found = [item for item in items(answer) if item.plays]
    assert (found[-1].frames == alone.frames).all()


def test_interrupt_from_outside_takes_effect_between_windows(host):
    """Like the page's button: the API's route, from another thread, while windows of one long step run."""
    results = {}

    def ask():
        results["clip"] = host.txt2img({**EIGHT, "video_length": 40, "batch_size": 8, "overlap": 4}, prompt=PROMPT,
                                       steps=30, sampler_name="Euler")

    thread = threading.Thread(target=ask)
    thread.start()
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        progress = host.get("/sdapi/v1/progress?skip_current_image=true").expect().body
        if "window" in str(progress.get("textinfo")):
            break
        time.sleep(0.05)
    start = time.monotonic()
    host.post("/sdapi/v1/interrupt", {}).expect()
    thread.join(300)
    assert not thread.is_alive()
    answer = results["clip"].expect()
    assert "interrupted" in json.dumps(answer.info), f"after {time.monotonic() - start:.0f} s"


def test_progress_counts_windows_and_previews_move(host):
    results = {}

    def ask():
        results["clip"] = host.txt2img({**EIGHT, "video_length": 20, "overlap": 2}, prompt=PROMPT, steps=8, seed=2,
                                       sampler_name="Euler")

    thread = threading.Thread(target=ask)
    thread.start()
    seen, texts, previews = [], set(), set()
    while thread.is_alive():
        body = host.get("/sdapi/v1/progress").expect().body
        seen.append(body["progress"])
        texts.add(body.get("textinfo"))
        previews.add(body.get("current_image"))
        time.sleep(0.05)
    thread.join()
    results["clip"].expect()
    assert any("window 2 of" in str(text) for text in texts), texts
    running = [p for p in seen if p > 0]
    assert running == sorted(running), "progress goes back"
    assert len(previews - {None}) >= 3, "the preview shows one picture only"


def test_apply_settings_during_a_clip_saves_and_keeps_what_the_user_chose(host):
    """Saving any setting writes all of them to config.json."""
    host.options(batch_cond_uncond=False)
    results = {}

    def ask():
        results["clip"] = host.txt2img({**EIGHT, "video_length": 20, "overlap": 2}, prompt=PROMPT, steps=8,
                                       sampler_name="Euler")

    def saved():
        return json.loads((host.data / "config.json").read_text("utf-8")).get("batch_cond_uncond", True)

    thread = threading.Thread(target=ask)
    thread.start()
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if "window" in str(host.get("/sdapi/v1/progress?skip_current_image=true").expect().body.get("textinfo")):
            break
        time.sleep(0.05)
    host.post("/sdapi/v1/options", {"show_progress_every_n_steps": 2}).expect()
    during = saved(), host.get("/sdapi/v1/options").expect().body["batch_cond_uncond"]
    host.post("/sdapi/v1/options", {"batch_cond_uncond": True}).expect()
    assert thread.is_alive(), "the clip was done before the settings were saved"
    host.post("/sdapi/v1/options", {"batch_cond_uncond": False}).expect()
    thread.join(300)
    results["clip"].expect()
    assert during == (False, False)
    assert saved() is False and host.get("/sdapi/v1/options").expect().body["batch_cond_uncond"] is False
    host.options(batch_cond_uncond=True, show_progress_every_n_steps=1)


# -- a run that cannot have motion is never a still picture ------------------------------------------------------------


def test_nothing_here_answered_200_with_a_still(host):
    for settings in ({**EIGHT, "model": "gone.ckpt"}, {**EIGHT, "fps": 0.001}, {**EIGHT, "overlap": 30}):
        assert host.txt2img(settings, prompt=PROMPT).status == 422
    assert len(stills(host.txt2img(FRAMES, prompt=PROMPT, steps=2))) == 8
