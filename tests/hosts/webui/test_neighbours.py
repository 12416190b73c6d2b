"""The real WebUI with the extensions that users have beside this one, in two orders of loading.

    WEBUI_EXTENSIONS  a folder with sd-webui-animatediff, sd-webui-controlnet and sd-dynamic-prompts
    WEBUI_EXTRA_PATH  must have the packages of those two: dynamicprompts, send2trash, addict, yapf,
                      fvcore, svglib, controlnet_aux

The oracle is the host alone. A motion module whose last layers are zero does not connect frames, so each frame of a
clip made with it must equal the picture that the host and ControlNet make of that frame's seed, prompt and hint, one by
one, on a checkpoint that has the motion module's noise schedule.
"""
from __future__ import annotations

import base64
import io
import json
import os
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from webui_host import DEMO, ROOT, Host, write_controlnet

THEIRS = Path(os.environ.get("WEBUI_EXTENSIONS", "/nowhere"))
OLDER, CONTROLNET, PROMPTS = "sd-webui-animatediff", "sd-webui-controlnet", "sd-dynamic-prompts"
NEIGHBOURS = {name: THEIRS / name for name in (OLDER, CONTROLNET, PROMPTS)}
HERE = Path(__file__).parent
OLDER_TITLE = f"AnimateDiff ({OLDER})"
STILL = {"enable": True, "model": "still.safetensors", "video_length": 6, "batch_size": 4, "overlap": 1,
         "format": ["GIF"], "returns": "frames"}
FRAMES = 6
SEED = 40
BROKEN = ("Error loading script", "Error creating UI", "Error executing callback",
          "Error running")  # as the host prints it
# Dynamic Prompts before the fix of its issue 754 registers its settings too late for a WebUI from 1.9 on.
PROMPT_SETTINGS = {
    "dp_ignore_whitespace": False, "dp_write_raw_template": False, "dp_write_prompts_to_file": False,
    "dp_parser_variant_start": "{", "dp_parser_variant_end": "}", "dp_parser_wildcard_wrap": "__",
    "dp_limit_jinja_prompts": False, "dp_auto_purge_cache": False, "dp_wildcard_manager_no_dedupe": False,
    "dp_wildcard_manager_no_sort": False, "dp_wildcard_manager_shuffle": False, "dp_magicprompt_batch_size": 1}

pytestmark = pytest.mark.skipif(not all(path.is_dir() for path in NEIGHBOURS.values()),
                                reason=f"WEBUI_EXTENSIONS names no folder with {', '.join(NEIGHBOURS)}")


@pytest.fixture(scope="module", params=["animatediff", "zz-animatediff"], ids=["ours first", "ours last"])
def neighbourhood(request, tmp_path_factory):
    data = tmp_path_factory.mktemp("neighbours")
    extensions = {request.param: ROOT, **NEIGHBOURS, "animatediff-test-probe": HERE / "probe",
                  "animatediff-test-neighbour": HERE / "neighbour"}
    host = Host(data, extensions, {"animatediff_model_path": str(data / "motion"), "sd_checkpoints_limit": 2,
                                   **PROMPT_SETTINGS})
    prepare(host)
    try:
        host.start()
        host.clean = host.plain(), essentials(host)
        yield host
    finally:
        host.stop()


@pytest.fixture
def host(neighbourhood):
    """The WebUI. After each test, plain pictures and the model are compared with those of the start."""
    neighbourhood.mark()
    yield neighbourhood
    neighbourhood.post("/test-probe/reset", {}).expect()  # the host does not restore an option that was unset
    pictures, state = neighbourhood.clean
    assert neighbourhood.plain() == pictures, "plain pictures differ"
    assert essentials(neighbourhood) == state


def essentials(host) -> dict:
    state = host.state()
    # ControlNet restores the own `forward` of the UNet, and after a reference of its blocks, as attributes.
    state["patches"] = [patch for patch in state["patches"]
                        if not patch.lstrip(".").startswith("model.diffusion_model.forward = modules.")
                        and "forward = ldm.modules." not in patch and "forward_cn_hijack = " not in patch]
    return {key: state[key]
            for key in ("checkpoint", "weights", "alphas_cumprod", "modules", "hooks", "patches", "callbacks")}


def prepare(host: Host) -> None:
    """Write the models: "linear", motion modules and a ControlNet, beside the demo model.

    "linear" is the demo model with the noise schedule of its motion module.
    """
    import torch
    import yaml
    from safetensors.torch import load_file, save_file

    checkpoints = host.data / "models" / "Stable-diffusion"
    (checkpoints / "linear.safetensors").symlink_to(checkpoints / "demo.safetensors")
    config = yaml.safe_load((checkpoints / "demo.yaml").read_text())
    config["model"]["params"]["beta_schedule"] = "sqrt_linear"  # the original code's name of the linear one
    (checkpoints / "linear.yaml").write_text(yaml.safe_dump(config))

    motion = host.data / "motion"
    motion.mkdir()
    (motion / "motion.safetensors").symlink_to(DEMO / "motion.safetensors")
    weights = load_file(DEMO / "motion.safetensors")
    still = {k: torch.zeros_like(v) if ".proj_out." in k else v for k, v in weights.items()}
    save_file(still, motion / "still.safetensors")

    random = torch.Generator().manual_seed(1)
    control = write_controlnet(host.data / "models" / "ControlNet", random)

    # SparseCtrl: the hint is a latent with a mask and goes through one convolution; temporal layers with one attention.
    sparse = {k: v for k, v in control.items() if not k.startswith("input_hint_block.")}
    sparse["input_hint_block.0.weight"] = torch.randn(64, 5, 3, 3, generator=random) * 0.3
    sparse["input_hint_block.0.bias"] = torch.zeros(64)
    sparse |= {k: v.float() for k, v in weights.items()
               if k.startswith("down_blocks.") and "attention_blocks.1." not in k and "norms.1." not in k}
    save_file(sparse, host.data / "models" / "ControlNet" / "sparse_tiny_sd15.safetensors")


def picture(raw: str) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(base64.b64decode(raw))).convert("RGB")).astype(int)


def encoded(image: Image.Image) -> str:
    out = io.BytesIO()
    image.save(out, format="PNG")
    return base64.b64encode(out.getvalue()).decode()


def ask(host, animatediff=None, **scripts_and_fields):
    """Send a request. Names with a blank or a capital are scripts, all others are fields."""
    scripts = {k: {"args": v} for k, v in scripts_and_fields.items() if k != k.lower() or " " in k}
    fields = {k: v for k, v in scripts_and_fields.items() if k not in scripts}
    return host.txt2img(animatediff, **{"prompt": "a red circle", "steps": 3, "seed": SEED,
                                        "alwayson_scripts": scripts, **fields})


def alone(host, i: int, **fields) -> np.ndarray:
    """Return the host's own picture of frame i, on the checkpoint with the motion module's schedule."""
    override = {"override_settings": {"sd_model_checkpoint": "linear.safetensors", "pad_cond_uncond": True}}
    return picture(ask(host, seed=SEED + i, **override, **fields).expect().images[0])


def frames_of(answer, count: int = FRAMES) -> list[np.ndarray]:
    """Return the frames of a clip. ControlNet appends its hints if it is loaded last."""
    return [picture(raw) for raw in answer.expect().images[:count]]


def agree(found: np.ndarray, wanted: np.ndarray) -> bool:
    """Compare pictures that were computed in batches of different sizes."""
    return np.abs(found - wanted).max() <= 2


# -- the older extension -----------------------------------------------------------------------------------------------


def test_the_start_says_that_both_are_there(neighbourhood):
    log = neighbourhood.log_path.read_text()
    assert "AnimateDiff: An older AnimateDiff extension is installed too (sd-webui-animatediff)" in log
    assert not [words for words in BROKEN if words in log], "nothing of the neighbours breaks"


def test_the_page_says_it_too_and_tells_the_two_apart(neighbourhood):
    with urllib.request.urlopen(f"{neighbourhood.url}/config") as response:
        components = json.load(response)["components"]
    props = [component["props"] for component in components]
    accordions = {p.get("label") for c, p in zip(components, props) if c["type"] == "accordion"}
    assert {"Enable AnimateDiff", OLDER_TITLE} <= accordions
    said = [p for p in props if (p.get("elem_id") or "").endswith("-ad-older")]
    assert len(said) == 2 and all("sd-webui-animatediff" in p["value"] for p in said)
    ids = [p["elem_id"] for p in props if "-ad-" in (p.get("elem_id") or "")]
    ours = [i for i in ids if "-older-ad-" not in i]
    assert len(ours) == len(set(ours)) and "txt2img-ad-frames" in ours and "txt2img-older-ad-enable" in ids


def test_requests_for_animatediff_are_ours(host):
    listed = host.get("/sdapi/v1/scripts").expect().body
    assert listed["txt2img"].count("animatediff") == listed["img2img"].count("animatediff") == 1
    answer = host.txt2img({**STILL, "model": "motion.safetensors", "returns": "clip"}).expect()
    assert "AnimateDiff files" in answer.info["extra_generation_params"]
    assert "AnimateDiff process start" not in host.log()
    assert Image.open(io.BytesIO(base64.b64decode(answer.images[0]))).n_frames == FRAMES


def test_what_only_ours_knows_is_refused_by_ours(host):
    answer = host.txt2img({"enable": True, "overlap": 99})
    assert answer.status == 422 and "overlap" in answer.detail


def test_both_in_one_job_are_refused(host):
    answer = ask(host, STILL, **{OLDER_TITLE: [{"enable": True}]})
    assert answer.status == 422
    assert OLDER in answer.detail and "Untick" in answer.detail
    assert "AnimateDiff process start" not in host.log()


def test_the_older_one_alone_is_still_there(host):
    """It cannot use the demo's motion module; the test sees that it tried."""
    ask(host, **{OLDER_TITLE: [{"enable": True, "model": "gone.ckpt", "format": ["PNG"]}]})
    assert "AnimateDiff process start" in host.log()


def test_a_picture_without_either(host):
    assert len(ask(host).expect().images) == 1


def test_its_folder_of_motion_modules_is_looked_into(host):
    answer = host.txt2img({"enable": True, "model": "gone.ckpt"})
    assert answer.status == 422 and str(host.data / "extensions" / OLDER / "model") in answer.detail


def test_its_infotext_is_read(host):
    """The host's own infotext parser fills the arguments of scripts that a request does not name."""
    text = ("a red circle\nSteps: 3, Sampler: DDIM, CFG scale: 5, Seed: 40, Size: 64x64, AnimateDiff: \"enable: True, "
            "model: still.safetensors, video_length: 5, fps: 8, loop_number: 0, closed_loop: N, batch_size: 5, "
            "stride: 1, overlap: -1, interp: Off, interp_x: 10, mm_hash: 12345678\"")
    answer = host.post("/sdapi/v1/txt2img", {"infotext": text}).expect()
    assert len(answer.images) == 1
    assert Image.open(io.BytesIO(base64.b64decode(answer.images[0]))).n_frames == 5


# -- ControlNet --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hints(neighbourhood):
    """A folder with one hint for each frame: a moving bar, with different colours in each."""
    folder = neighbourhood.data / "hints"
    folder.mkdir()
    for i in range(FRAMES):
        image = Image.new("RGB", (64, 64), (40 * i, 255 - 40 * i, 90))
        image.paste((255, 255, 255), (10 * i, 0, 10 * i + 8, 64))
        image.save(folder / f"{i:03}.png")
    return folder


def unit(**more) -> dict:
    return {"enabled": True, "module": "none", "model": "control_tiny_sd15", "weight": 1.0, **more}


@pytest.mark.parametrize("fields", [{}, {"override_settings": {"batch_cond_uncond": False}}, {"cfg_scale": 1},
                                    {"negative_prompt": ", ".join(["blue"] * 80)}], ids=str)
def test_a_folder_gives_each_frame_its_hint(host, hints, fields):
    """A clip of 6 in windows of 4, against six pictures with a unit of one picture each."""
    made = frames_of(ask(host, {**STILL, "video_length": 0}, ControlNet=[unit(batch_images=str(hints))], **fields))
    assert len(made) == FRAMES
    fields = {k: v for k, v in fields.items() if k != "override_settings"}
    for i, frame in enumerate(made):
        hint = encoded(Image.open(hints / f"{i:03}.png"))
        assert agree(frame, alone(host, i, ControlNet=[unit(image=hint)], **fields)), f"frame {i}"
    assert np.abs(frame - alone(host, i, **fields)).max() > 20, "the hint changes something"


def test_the_hints_come_back_for_the_next_job(host, hints):
    twice = [frames_of(ask(host, STILL, ControlNet=[unit(batch_images=str(hints))])) for _ in range(2)]
    assert (np.stack(twice[0]) == np.stack(twice[1])).all()


def test_hires_fix_has_the_larger_hints(host, hints):
    fields = {"enable_hr": True, "hr_scale": 1.5, "hr_upscaler": "Latent", "denoising_strength": 0.6}
    made = frames_of(ask(host, STILL, ControlNet=[unit(batch_images=str(hints))], **fields))
    for i in (0, FRAMES - 1):
        hint = encoded(Image.open(hints / f"{i:03}.png"))
        assert agree(made[i], alone(host, i, ControlNet=[unit(image=hint)], **fields)), f"frame {i}"


def test_one_picture_is_the_hint_of_every_frame(host, hints):
    hint = encoded(Image.open(hints / "002.png"))
    made = frames_of(ask(host, STILL, ControlNet=[unit(image=hint)]))
    for i, frame in enumerate(made):
        assert agree(frame, alone(host, i, ControlNet=[unit(image=hint)])), f"frame {i}"


def test_key_frames_are_the_only_ones_with_a_hint(host, hints):
    folder = hints.with_name("keys")  # folders elsewhere are not read
    folder.mkdir(exist_ok=True)
    for name in ("000.png", "003.png"):
        (folder / name).write_bytes((hints / name).read_bytes())
    made = frames_of(ask(host, STILL, ControlNet=[unit(batch_images=f"{folder}\nkeyframe: 1, 4")]))
    black = encoded(Image.new("RGB", (64, 64)))  # ControlNet's own hint between key frames
    for i, frame in enumerate(made):
        hint = {1: "000.png", 4: "003.png"}.get(i)
        raw = encoded(Image.open(hints / hint)) if hint else black
        assert agree(frame, alone(host, i, ControlNet=[unit(image=raw)])), f"frame {i}"


def test_each_of_free_inits_iterations_has_a_units_steps_from_the_first(host, hints):
    """A unit for the first half of the steps acts in the last iteration too.

    This iteration keeps nothing of the previous one. A unit with a folder gives each frame its hint there.
    """
    settings, folder = {**STILL, "freeinit_iterations": 2, "freeinit_d_s": 0}, str(hints)
    none, half, whole, fourth = (np.stack(frames_of(ask(host, settings, steps=8, **more))) for more in (
        {}, *({"ControlNet": [unit(batch_images=folder, guidance_end=end)]} for end in (0.5, 1.0, 0.25))))
    assert min(np.abs(a - b).max() for a, b in ((half, none), (whole, half), (fourth, half), (fourth, none))) > 5


def test_with_motion_too(host, hints):
    moving = {**STILL, "model": "motion.safetensors", "batch_size": 6, "overlap": 0}
    made = np.stack(frames_of(ask(host, moving, ControlNet=[unit(batch_images=str(hints))])))
    assert np.abs(made - np.stack(frames_of(ask(host, moving)))).max() > 20


@pytest.mark.parametrize("fields", [{}, {"speed": "draft", "steps": 10}], ids=str)
@pytest.mark.parametrize("module", ["reference_only", "reference_adain+attn"])
def test_a_reference_picture(host, hints, module, fields):
    """It has the UNet called with noise on the picture. That noise is random, so there is no picture to compare with.
    """
    steps = fields.get("steps", 3)
    moving = {**STILL, "model": "motion.safetensors", "speed": fields.get("speed", "exact")}
    reference = unit(module=module, model="None", image=encoded(Image.open(hints / "000.png")), threshold_a=0.5)
    made = np.stack(frames_of(ask(host, moving, ControlNet=[reference], steps=steps)))
    plain = np.stack(frames_of(ask(host, moving, steps=steps)))
    assert made.shape == plain.shape == (FRAMES, 64, 64, 3)
    assert 1 < np.abs(made - plain).mean() < 60 and made.std() > 10
    assert np.abs(np.diff(made, axis=0)).mean() < 3 * np.abs(np.diff(plain, axis=0)).mean() + 3, "the frames are a clip"


@pytest.mark.parametrize("context", [6, 4])
def test_sparsectrl_runs_with_our_temporal_layers(host, hints, context):
    """One key frame. The model sees zeros at the other frames, and only its temporal layers carry the picture there."""
    settings = {**STILL, "batch_size": context, "overlap": 1}
    made = {}
    for name in ("000.png", "005.png"):
        folder = hints.parent / f"only {name}"  # the server reads files only in allowed folders
        folder.mkdir(exist_ok=True)
        (folder / name).write_bytes((hints / name).read_bytes())
        key = unit(model="sparse_tiny_sd15", batch_images=f"{folder}\nkeyframe: 1")
        made[name] = np.stack(frames_of(ask(host, settings, ControlNet=[key])))
    differing = np.abs(made["000.png"] - made["005.png"]).max((1, 2, 3))
    assert differing[1] > 20
    assert (differing > 0).all() if context == FRAMES else (differing[:4] > 0).all()
    assert "Error" not in host.log()


def test_a_folder_with_too_few_pictures_is_refused(host, hints):
    answer = ask(host, {**STILL, "video_length": 9}, ControlNet=[unit(batch_images=str(hints))])
    assert answer.status == 422 and "ControlNet unit 0" in answer.detail and "6 pictures" in answer.detail


def test_a_unit_that_fails_stops_the_clip(host, hints):
    answer = ask(host, STILL, ControlNet=[unit(batch_images=str(hints), model="no such model")])
    assert answer.status == 422 and "ControlNet" in answer.detail


def test_a_unit_of_its_own_batch_without_a_clip_is_controlnets(host, hints):
    """Without AnimateDiff, ControlNet treats a folder as a batch of jobs."""
    host.options(controlnet_show_batch_images_in_ui=True)
    answer = ask(host, ControlNet=[unit(batch_images=str(hints), input_mode="batch")]).expect()
    host.options(controlnet_show_batch_images_in_ui=False)
    assert len(answer.images) == FRAMES


# -- a source video ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def video(hints):
    """The hints as a video without loss, 8 frames per second."""
    av = pytest.importorskip("av")
    path = hints.with_name("hints.mkv")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=8)
        stream.width = stream.height = 64
        stream.pix_fmt = "bgr0"
        for file in sorted(hints.iterdir()):
            container.mux(stream.encode(av.VideoFrame.from_image(Image.open(file))))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("fields", [{}, {"enable_hr": True, "hr_scale": 1.5, "hr_upscaler": "Latent",
                                         "denoising_strength": 0.6}], ids=["", "Hires. fix"])
def test_a_unit_without_a_picture_has_the_videos_frames(host, hints, video, fields):
    """The second unit has a picture of its own, and keeps it."""
    own = encoded(Image.open(hints / "002.png"))
    units = [unit(weight=0.8), unit(image=own, weight=0.4)]
    made = frames_of(ask(host, {**STILL, "video_length": 0, "video_path": str(video)}, ControlNet=units, **fields))
    for i in (0, 3, FRAMES - 1):
        hint = encoded(Image.open(hints / f"{i:03}.png"))
        alike = [unit(image=hint, weight=0.8), unit(image=own, weight=0.4)]
        assert agree(made[i], alone(host, i, ControlNet=alike, **fields)), f"frame {i}"


@pytest.mark.parametrize("steps, strength, near", [(3, 0.6, 3), (10, 0.9, 1)])
def test_in_img2img_the_clip_starts_from_the_video_as_well(host, hints, video, steps, strength, near):
    """A frame is near the host's own picture with the same start picture and hint, and far from any other.

    near: the demo VAE's encoder draws noise with a standard deviation of 1.9, anew for each clip. A high strength
    leaves less of it, and only there the hint has an effect.
    """
    raw = base64.b64encode(video.read_bytes()).decode()
    fields = {"prompt": "a red circle", "steps": steps, "denoising_strength": strength}
    made = frames_of(host.img2img([], {**STILL, "video_length": 0, "video_source": raw}, **fields, seed=SEED,
                                  alwayson_scripts={"ControlNet": {"args": [unit()]}}))
    override = {"override_settings": {"sd_model_checkpoint": "linear.safetensors", "pad_cond_uncond": True}}

    def distance(i: int, start: int, **scripts: Any) -> float:
        plain = host.img2img([encoded(Image.open(hints / f"{start:03}.png"))], **fields, **override, seed=SEED + i,
                             **scripts)
        return float(np.abs(made[i] - picture(plain.expect().images[0])).mean())

    for i in (0, FRAMES - 1):
        hint = unit(image=encoded(Image.open(hints / f"{i:03}.png")))
        scripts = {"alwayson_scripts": {"ControlNet": {"args": [hint]}}}
        assert distance(i, i, **scripts) < near, f"frame {i}"
        assert distance(i, FRAMES - 1 - i, **scripts) > 20, "the start picture matters"
        assert steps == 3 or distance(i, i) > 3, "the hint matters"


def test_the_older_extensions_payload_of_a_source_video_runs_as_it_is(host, hints, video):
    """That of its docs/how-to-use.md with files of ours."""
    folders = [hints.with_name(name) for name in ("path to frames", "path to masks")]
    for folder, color in zip(folders, ((90, 30, 200), (255, 255, 255))):
        folder.mkdir(exist_ok=True)
        for i in range(16):
            Image.new("RGB", (64, 64), tuple((each + 5 * i) % 256 if color[0] < 255 else 255 for each in color)).save(
                folder / f"{i:05}.png")
    args = {"model": "motion.safetensors", "format": ["GIF"], "enable": True, "video_length": 16, "fps": 8,
            "loop_number": 0, "closed_loop": "R+P", "batch_size": 16, "stride": 1, "overlap": -1, "interp": "Off",
            "interp_x": 10, "video_source": str(video), "video_path": str(folders[0]), "mask_path": str(folders[1]),
            "latent_power": 1, "latent_scale": 32, "last_frame": None, "latent_power_last": 1, "latent_scale_last": 32,
            "request_id": ""}
    answer = ask(host, args, ControlNet=[unit()], steps=2).expect()
    assert Image.open(io.BytesIO(base64.b64decode(answer.images[0]))).n_frames == 16  # before ControlNet's hints
    assert "Error" not in host.log()


# -- Dynamic Prompts ---------------------------------------------------------------------------------------------------


def test_a_cyclic_prompt_gives_each_frame_its_option(host):
    answer = ask(host, STILL, prompt="a {@red|blue||green} circle")
    options = ["a red circle", "a blue circle", "a circle", "a green circle"]
    wanted = [options[i % 4] for i in range(FRAMES)]
    assert [" ".join(prompt.split()) for prompt in answer.expect().info["all_prompts"]] == wanted
    for i, frame in enumerate(frames_of(answer)):
        assert agree(frame, alone(host, i, prompt=answer.info["all_prompts"][i])), f"frame {i}"


def test_the_clips_infotext_has_the_template(host):
    answer = ask(host, STILL, prompt="a {@red|blue} circle").expect()
    assert answer.info["infotexts"][0].startswith("a {@red|blue} circle\n")


@pytest.mark.parametrize("noise", ["per clip", "constant", "repeated context"])
def test_dynamic_prompts_leave_the_noise_as_asked(host, noise):
    """Dynamic Prompts renumbers the seeds of a batch, after or before us."""
    settings = {**STILL, "noise": noise}
    plain = frames_of(ask(host, settings, **{"Dynamic Prompts v2.17.1": [False]}))
    dynamic = frames_of(ask(host, settings))
    assert (np.stack(plain) == np.stack(dynamic)).all()


def test_two_clips_go_on_with_the_options(host):
    answer = ask(host, {**STILL, "returns": "clip"}, prompt="a {@red|blue} circle", n_iter=2).expect()
    assert len(answer.images) == 2 and len(answer.info["all_prompts"]) == 2 * FRAMES


# -- second passes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["new job", "other scripts"])
def test_a_second_pass_is_of_single_pictures_without_motion(host, how):
    moving = {**STILL, "model": "motion.safetensors"}
    answer = ask(host, moving, **{"AnimateDiff test neighbour": [how]})
    made = frames_of(answer)
    pairs = host.get("/test-neighbour/pairs").expect().body
    assert len(pairs) == len(made) == FRAMES
    for (before, after), frame in zip(pairs, made):
        assert len(after) == 1, "no clip of its own"
        plain = host.img2img([before], prompt="a blue square", steps=3, seed=5,
                             denoising_strength=0.5, scheduler="Automatic")
        assert (picture(after[0]) == picture(plain.expect().images[0])).all(), "what the host makes of it alone"
        assert np.abs(picture(after[0]) - picture(before)).max() > 20
        assert (frame == picture(after[0])).all()


def test_a_copy_of_the_clips_own_job_leaves_the_clip_alone(host):
    answer = ask(host, {**STILL, "model": "motion.safetensors"}, **{"AnimateDiff test neighbour": ["copy of p"]})
    made, pairs = frames_of(answer), host.get("/test-neighbour/pairs").expect().body
    assert [len(after) for _, after in pairs] == [1] * FRAMES
    plain = picture(ask(host, prompt="a blue square", seed=5).expect().images[0])
    assert all((frame == plain).all() for frame in made)
    files = answer.info["extra_generation_params"]["AnimateDiff files"]
    assert len(files) == 1


# -- reload ------------------------------------------------------------------------------------------------------------


def test_reloading_the_page_doubles_nothing(host):
    callbacks = host.state()["callbacks"]
    host.post("/test-neighbour/reload", {}).expect()
    for _ in range(300):
        time.sleep(1)
        if "Restarting UI..." in host.log() and host.log().count("Startup time:") == 1:
            break
    assert host.log().count("An older AnimateDiff extension is installed too") == 1
    assert not [words for words in BROKEN if words in host.log()]
    assert host.state()["callbacks"] == callbacks
    test_requests_for_animatediff_are_ours(host)
    test_both_in_one_job_are_refused(host)
