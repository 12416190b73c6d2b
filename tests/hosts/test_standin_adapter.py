"""The extension's own code in the stand-in for the WebUI: clips, errors, and the undoing of all changes.

The oracle of most tests is the host alone. A motion module whose last layers are zero has no effect, so a clip made
with it must equal the host's own pictures of the same batch, on a checkpoint that has the motion module's noise
schedule.
"""
from __future__ import annotations

import io
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence
from safetensors.torch import save_file
from slow_cases import slow
from tiny_models import write_module

ROOT = Path(__file__).parents[2]
STANDIN = Path(__file__).parent / "standin"
sys.path.append(str(STANDIN / "traces"))

from trace_jobs import LONG  # noqa: E402

WIDTHS = (32, 32, 32, 32)
REQUEST = {"prompt": "a red circle moving right", "width": 64, "height": 64, "steps": 3, "seed": 7, "cfg_scale": 5.0,
           "sampler_name": "Euler"}
TOTAL = 1000


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """moving.safetensors has an effect, still.safetensors has none; the others do not fit or are broken."""
    from animatediff import motion

    folder = tmp_path_factory.mktemp("motion")
    write_module(folder / "moving.safetensors", widths=WIDTHS)
    write_module(folder / "short.safetensors", widths=WIDTHS, frames=4)
    write_module(folder / "wide.safetensors", widths=(64, 64, 64, 64))
    write_module(folder / "hotshot.safetensors", "HotShot-XL", widths=(32, 32, 32))
    torch.manual_seed(3)
    module = motion.build(WIDTHS, "v2")
    for name, value in module.state_dict().items():
        if ".proj_out." in name:
            value.zero_()
    save_file({k: v.clone().contiguous() for k, v in module.state_dict().items()}, folder / "still.safetensors")
    (folder / "broken.safetensors").write_bytes((folder / "moving.safetensors").read_bytes()[:5000])
    return folder


@pytest.fixture
def host(tmp_path, monkeypatch, library):
    """The stand-in with the extension, and the checkpoint "linear" beside "demo" and "second"."""
    monkeypatch.syspath_prepend(str(STANDIN))
    from standin_host import standing_in

    with standing_in(tmp_path) as host:
        host.opts.data["animatediff_model_path"] = str(library)
        linear = dict(host.tiny.weights(1))
        linear["alphas_cumprod"] = torch.cumprod(
            1 - torch.linspace(0.00085, 0.012, TOTAL, dtype=torch.float64), 0).float()
        models = host.sd_models
        models.register(models.CheckpointInfo("linear", host.tiny.LatentDiffusion, linear))
        host.load(ROOT / "scripts" / "animatediff.py")
        host.show()
        yield host


def animate(host, settings: dict | None = None, tab: str = "txt2img", **fields):
    settings = {"enable": True, "model": "moving.safetensors", "video_length": 6, "format": ["GIF"], **(settings or {})}
    return host.request(tab, {**REQUEST, **fields}, {"AnimateDiff": [settings]})


def frames_of(answer) -> np.ndarray:
    """Return all still pictures of a response, [n h w 3]."""
    assert answer.status == 200, answer
    opened = [Image.open(io.BytesIO(raw)) for raw in answer.images]
    return np.stack([np.array(i.convert("RGB")) for i in opened if not getattr(i, "is_animated", False)])


def snapshot(host) -> dict:
    """Return everything about the loaded model and the settings that a job must not change."""
    model = host.shared.sd_model
    unet = model.model.diffusion_model
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_state_dict_hooks")
    return {
        "model": id(model), "checkpoint": model.sd_checkpoint_info.name,
        "weights": {k: (v.shape, v.double().sum().item(), v.double().square().sum().item())
                    for k, v in model.state_dict().items()},
        "alphas": (id(model.alphas_cumprod), id(model.alphas_cumprod_original)),
        "hooks": [sum(len(getattr(m, kind)) for m in model.modules()) for kind in kinds],
        "modules": [(name, type(m)) for name, m in model.named_modules()],
        "patches": [(name, key) for name, m in model.named_modules() for key, value in vars(m).items()
                    if callable(value) and not key.startswith("_")],
        "modes": [m.training for m in unet.modules()],
        "options": dict(host.opts.data),
        "callbacks": {name: list(found) for name, found in host.script_callbacks.callback_map.items()},
    }


def plain(host) -> list[bytes]:
    """Return pictures made without AnimateDiff."""
    text = host.request("txt2img", {**REQUEST, "sampler_name": "Euler a", "batch_size": 2})
    picture = Image.open(io.BytesIO(text.images[0]))
    image = host.request("img2img", {**REQUEST, "sampler_name": "DDIM", "init_images": [picture], "batch_size": 2})
    return text.images + image.images


# -- clips -------------------------------------------------------------------------------------------------------------


def test_a_clip_comes_back_and_lies_in_its_folder(host):
    answer = animate(host, {"video_length": 6, "batch_size": 4, "format": ["GIF", "PNG"]})
    assert answer.status == 200, answer
    clip = Image.open(io.BytesIO(answer.images[0]))
    assert (len(answer.images), clip.format, clip.n_frames, clip.size) == (1, "GIF", 6, (64, 64))
    written = sorted(p.relative_to(host.data / "outputs") for p in (host.data / "outputs").rglob("*") if p.is_file())
    assert all(p.parts[:2] == ("txt2img-images", "AnimateDiff") for p in written)
    assert [p.suffix for p in written].count(".gif") == 1 and [p.suffix for p in written].count(".png") == 6
    assert "AnimateDiff: " in answer.info["infotexts"][0] and "frames: 6" in answer.info["infotexts"][0]


def test_without_us_enabled_the_host_makes_what_it_always_made(host):
    wanted = plain(host)
    off = host.request("txt2img", {**REQUEST, "sampler_name": "Euler a", "batch_size": 2},
                       {"AnimateDiff": [{"enable": False}]})
    assert off.images == wanted[:2]


@pytest.mark.parametrize("fields", [
    {},
    slow({"sampler_name": "DDIM"}),
    slow({"sampler_name": "Heun"}),
    slow({"sampler_name": "Euler a"}),
    slow({"prompt": "a red circle AND a blue square :0.5"}),
    {"prompt": LONG},
    slow({"negative_prompt": LONG}),
    {"prompt": f"a star AND {LONG}"},
    {"cfg_scale": 1.0},
    {"s_min_uncond": 20.0, "steps": 5},
    slow({"override_settings": {"skip_early_cond": 0.5}, "steps": 4}),
    {"override_settings": {"batch_cond_uncond": False}},
    {"enable_hr": True, "hr_upscaler": "Latent", "denoising_strength": 0.6},
    slow({"enable_hr": True, "hr_upscaler": "Lanczos", "denoising_strength": 0.6, "hr_second_pass_steps": 2}),
], ids=str)
@pytest.mark.parametrize("context", [slow(6), 4])
def test_with_a_module_that_moves_nothing_frames_are_the_hosts_own(host, fields, context):
    """Schedule, rows and order are right, however the host calls the model, and also in windows."""
    still = {"model": "still.safetensors", "batch_size": context, "overlap": 1, "returns": "frames"}
    ours = frames_of(animate(host, still, **fields))
    override = {**fields.get("override_settings", {}), "pad_cond_uncond": True, "sd_model_checkpoint": "linear"}
    theirs = frames_of(host.request("txt2img", {**REQUEST, **fields, "batch_size": 6, "override_settings": override}))
    assert ours.shape == theirs.shape
    assert np.abs(ours.astype(int) - theirs).max() <= 1
    assert np.abs(ours[0].astype(int) - ours[1]).max() > 20, "frames must differ, or nothing is shown"


def test_frame_alone_in_the_formats_answers_with_frames_and_writes_nothing(host):
    assert len(frames_of(animate(host, {"format": ["Frame"]}))) == 6
    assert not list((host.data / "outputs").rglob("*.*"))


def test_img2img_starts_every_frame_from_the_picture(host):
    picture = Image.linear_gradient("L").resize((64, 64)).convert("RGB")
    fields = {"init_images": [picture], "denoising_strength": 0.7}
    ours = frames_of(animate(host, {"model": "still.safetensors", "returns": "frames", "latent_scale": 0}, "img2img",
                             **fields))
    theirs = frames_of(host.request("img2img", {**REQUEST, **fields, "batch_size": 6,
                                                "override_settings": {"sd_model_checkpoint": "linear"}}))
    assert np.abs(ours.astype(int) - theirs).max() <= 1


def test_several_pictures_are_the_clips_frames(host):
    pictures = [Image.new("RGB", (64, 64), (40 * i, 90, 200 - 40 * i)) for i in range(5)]
    answer = animate(host, {"video_length": 0, "returns": "frames"}, "img2img", init_images=pictures,
                     denoising_strength=0.3)
    assert len(frames_of(answer)) == 5


def test_a_moving_module_ties_the_frames_together(host):
    """Another seed changes only frame 0's noise in the host. With the module, every frame of the clip changes."""
    def noise_of_first_changed(p):
        p.rng.generators[0].manual_seed(4242)

    def made(changed: bool) -> np.ndarray:
        script = next(s for s in host.scripts.scripts_txt2img.alwayson_scripts if s.title() == "AnimateDiff")
        original = type(script).process_batch
        type(script).process_batch = (lambda self, p, *a, **k: noise_of_first_changed(p)) if changed else original
        try:
            return frames_of(animate(host, {"returns": "frames"}))
        finally:
            type(script).process_batch = original

    before, after = made(False), made(True)
    assert (np.abs(before.astype(int) - after).max((1, 2, 3)) > 0).all()


@pytest.mark.slow
def test_clips_of_one_job_do_not_know_each_other(host):
    both = frames_of(animate(host, {"returns": "frames"}, n_iter=2))
    alone = frames_of(animate(host, {"returns": "frames"}, seed=REQUEST["seed"] + 6))
    assert len(both) == 12
    assert (both[6:] == alone).all()


def test_a_kind_of_noise_numbers_the_seeds_of_every_clip(host):
    """With a module without effect, frames of one seed are the same picture: the host's picture of that seed."""
    settings = {"model": "still.safetensors", "noise": "constant", "video_length": 3, "returns": "frames"}
    answer = animate(host, settings, n_iter=2)
    frames = frames_of(answer)
    for first in (0, 3):
        alone = frames_of(animate(host, {**settings, "noise": "per frame", "video_length": 1},
                                  seed=REQUEST["seed"] + first))
        assert np.abs(frames[first:first + 3].astype(int) - alone).max() <= 1
    assert np.abs(frames[0].astype(int) - frames[3]).max() > 10


@pytest.mark.slow
def test_the_unet_never_sees_more_than_a_window(host):
    rows = []
    unet = host.shared.sd_model.model.diffusion_model
    hook = unet.register_forward_pre_hook(lambda m, args: rows.append((len(args[0]), args[0].shape[-1])))
    answer = animate(host, {"video_length": 9, "batch_size": 4}, enable_hr=True, hr_upscaler="Latent",
                     denoising_strength=0.5)
    hook.remove()
    assert answer.status == 200
    assert {size for _, size in rows} == {8, 16}, "both passes ran"
    assert max(count for count, _ in rows) == 2 * 4, "a window in two roles"


def test_progress_counts_windows_and_others_read_the_hosts_own_step(host, monkeypatch):
    """ControlNet reads the progress from `sampling_step` in every call of the UNet, so it must be equal in all windows.
    """
    state, seen, decoding, model = host.shared.state, [], [], host.shared.sd_model
    decode = model.decode_first_stage

    def share():
        return (state.job_no + state.sampling_step / state.sampling_steps) / state.job_count

    def note(module, args):
        seen.append((state.sampling_step, share()))

    def decode_first_stage(latents):
        decoding.append(share())
        return decode(latents)

    monkeypatch.setattr(model, "decode_first_stage", decode_first_stage)
    hook = host.shared.sd_model.model.diffusion_model.register_forward_pre_hook(note)
    try:
        host.request("txt2img", {**REQUEST, "batch_size": 6})
        plain = [step for step, _ in seen]
        seen.clear(), decoding.clear()
        animate(host, {"batch_size": 3, "overlap": 0, "context_schedule": "batched"})
    finally:
        hook.remove()
    windows = len(seen) // len(plain)
    assert windows > 1 and [step for step, _ in seen] == [step for step in plain for _ in range(windows)]
    assert [share for _, share in seen] == pytest.approx([i / len(seen) for i in range(len(seen))])
    assert set(decoding) == {1.0}, "a pass that is over is done"
    assert state.job_no == int(state.job_no)


def test_a_checkpoint_of_the_request_is_the_one_that_moves(host):
    override = {"override_settings": {"sd_model_checkpoint": "second"}}
    asked = frames_of(animate(host, {"returns": "frames"}, **override))
    host.opts.data["sd_model_checkpoint"] = "second"
    loaded = frames_of(animate(host, {"returns": "frames"}))
    assert (asked == loaded).all()


def test_the_refiner_takes_over_with_motion(host):
    fields = {"refiner_checkpoint": "second", "refiner_switch_at": 0.5, "steps": 4}
    refined = frames_of(animate(host, {"returns": "frames"}, **fields))
    alone = frames_of(animate(host, {"returns": "frames"}, steps=4))
    assert (refined != alone).any()
    still = frames_of(animate(host, {"returns": "frames", "model": "still.safetensors"}, **fields))
    # The host alone, on checkpoints that have the module's schedule.
    second = dict(host.tiny.weights(2)) | {
        "alphas_cumprod": host.sd_models.checkpoints_list["linear"].weights["alphas_cumprod"]}
    host.sd_models.register(host.sd_models.CheckpointInfo("second linear", host.tiny.LatentDiffusion, second))
    theirs = host.request("txt2img", {**REQUEST, **fields, "refiner_checkpoint": "second linear", "batch_size": 6,
                                      "override_settings": {"sd_model_checkpoint": "linear"}})
    assert np.abs(still.astype(int) - frames_of(theirs)).max() <= 1


# -- undone ------------------------------------------------------------------------------------------------------------


def failing(host, at: int, what):
    """Make the UNet's call number `at` call `what`, once."""
    count = 0

    def hook(module, args, kwargs):
        nonlocal count
        count += 1
        if count == at:
            handle.remove()
            what()

    handle = host.shared.sd_model.model.diffusion_model.register_forward_pre_hook(hook, with_kwargs=True)
    return handle


def error():
    raise RuntimeError("raised on purpose in the forward")


def memory():
    raise torch.OutOfMemoryError("raised on purpose in the forward")


CASES = {
    "a clip": lambda host: animate(host),
    "windows": lambda host: animate(host, {"batch_size": 4}),
    "Hires. fix": lambda host: animate(host, enable_hr=True, hr_upscaler="Latent"),
    "DDIM": lambda host: animate(host, sampler_name="DDIM"),
    "another checkpoint": lambda host: animate(host, override_settings={"sd_model_checkpoint": "second"}),
    "the refiner": lambda host: animate(host, refiner_checkpoint="second", refiner_switch_at=0.5),
    "an error": lambda host: (failing(host, 2, error), animate(host))[1],
    "an error in a window": lambda host: (failing(host, 4, error), animate(host, {"batch_size": 4}))[1],
    "an error in Hires. fix": lambda host: (failing(host, 4, error),
                                            animate(host, enable_hr=True, hr_upscaler="Latent"))[1],
    "out of memory": lambda host: (failing(host, 2, memory), animate(host))[1],
    "an interrupt": lambda host: (failing(host, 2, host.state.interrupt), animate(host))[1],
    "an interrupt in Hires. fix": lambda host: (failing(host, 4, host.state.interrupt),
                                                animate(host, enable_hr=True, hr_upscaler="Latent"))[1],
    "a skip": lambda host: (failing(host, 2, host.state.skip), animate(host, n_iter=2))[1],
    "too wide": lambda host: animate(host, {"model": "wide.safetensors"}),
    "of SDXL": lambda host: animate(host, {"model": "hotshot.safetensors"}),
    "not there": lambda host: animate(host, {"model": "gone.ckpt"}),
    "broken": lambda host: animate(host, {"model": "broken.safetensors"}),
    "too long a window": lambda host: animate(host, {"model": "short.safetensors", "batch_size": 6, "overlap": 1}),
    "no frames a second": lambda host: animate(host, {"fps": -1}),
    "overlap": lambda host: animate(host, {"overlap": 16}),
}
SLOW = ("DDIM", "Hires. fix", "an error", "an interrupt in Hires. fix")
REFUSED = {  # the message's parts: the problem and the remedy
    "too wide": ("wide.safetensors", "64/64/64/64", "32/32/32/32", "Pick"),
    "of SDXL": ("hotshot.safetensors", "SDXL", "SD1.5", "Pick"),
    "not there": ("gone.ckpt",),
    "broken": ("broken.safetensors",),
    "too long a window": ("short.safetensors", "4", "context"),
    "no frames a second": ("fps", "from 0 to 1000"),
    "overlap": ("overlap", "16"),
}
ERRORS = {"an error", "an error in a window", "an error in Hires. fix"}


@pytest.mark.parametrize("name", [slow(name) if name in SLOW else name for name in CASES])
def test_everything_is_as_before(host, name):
    wanted = plain(host)
    before = snapshot(host)
    answer = CASES[name](host)
    assert answer.status == (422 if name in REFUSED else 500 if name in ERRORS else 200), answer
    assert plain(host) == wanted
    assert snapshot(host) == before


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_done_is_refused_with_a_message_and_without_files(host, name):
    answer = CASES[name](host)
    assert answer.status == 422
    for part in REFUSED[name]:
        assert part in answer.detail
    assert not list((host.data / "outputs").rglob("*.*"))
    assert not [e for _, e in host.errors.reported if e is not None], "nothing was left to the host to swallow"


READS_PROMPTS = """
from modules import scripts
class ReadsPrompts(scripts.Script):
    def title(self): return "As the host's own script that strips comments"
    def show(self, is_img2img): return scripts.AlwaysVisible
    def process(self, p, *args): p.all_prompts = [prompt.strip() for prompt in p.all_prompts]
"""


def test_other_scripts_can_read_the_prompts_of_a_job_that_is_stopped(host, tmp_path):
    (tmp_path / "reads_prompts.py").write_text(READS_PROMPTS)
    host.load(tmp_path / "reads_prompts.py")
    host.show()
    assert CASES["too long a window"](host).status == 422
    assert not [error for _, error in host.errors.reported if error is not None]


def test_a_plot_cannot_go_on_after_a_job_that_is_stopped(host):
    """The plot swallows any exception, then reads the prompts of the missing picture."""
    from animatediff.errors import SettingsError
    from animatediff.hosts.shared import stop

    for begin in (stop.before_anything, stop.before_sampling):
        p = SimpleNamespace(all_prompts=["a circle"], override_settings={}, init=lambda *_: None)
        begin(p, SettingsError("too long"))
        with pytest.raises(stop.AnimateDiffStopped):
            p.override_settings.keys()
            p.init(p.all_prompts, [], [])
        with pytest.raises(stop.AnimateDiffStopped):
            p.all_prompts[0]


def test_no_module_at_all_says_where_to_put_one(host, tmp_path):
    empty = tmp_path / "nothing here"
    empty.mkdir()
    host.opts.data["animatediff_model_path"] = str(empty)
    answer = animate(host, {"model": "mm.ckpt"})
    assert answer.status == 422 and str(empty) in answer.detail


def test_a_clip_that_was_interrupted_before_its_first_step_is_none(host):
    failing(host, 1, host.state.interrupt)
    answer = animate(host)
    assert answer.status == 200 and not list((host.data / "outputs").rglob("*.gif"))
    assert answer.info["extra_generation_params"]["AnimateDiff notes"] == [
        "interrupted before the first step was done: there is no clip"]


def test_an_interrupted_clip_keeps_its_frames_and_says_so(host):
    failing(host, 3, host.state.interrupt)
    answer = animate(host, {"format": ["GIF"]}, steps=6)
    assert answer.status == 200
    assert Image.open(io.BytesIO(answer.images[0])).n_frames == 6
    text = answer.info["infotexts"][0]
    assert "of 6 steps" in text
    assert any("interrupted" in note for note in answer.info["extra_generation_params"]["AnimateDiff notes"])


def test_a_job_after_a_failed_one_makes_the_same_clip(host):
    wanted = animate(host).images
    failing(host, 2, error)
    assert animate(host).status == 500
    assert animate(host).images == wanted


@pytest.mark.slow
def test_the_same_seed_makes_the_same_clip_and_another_does_not(host):
    first, again, other = animate(host), animate(host), animate(host, seed=8)
    assert first.images == again.images != other.images


def test_the_clip_holds_the_frames_that_come_with_it(host):
    answer = animate(host, {"format": ["APNG"], "returns": "both"})
    clip, *stills = [Image.open(io.BytesIO(raw)) for raw in answer.images]
    played = np.stack([np.array(f.convert("RGB")) for f in ImageSequence.Iterator(clip)])
    assert (played == np.stack([np.array(s.convert("RGB")) for s in stills])).all()
