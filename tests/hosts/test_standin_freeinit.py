# ruff: noqa: F401
"""FreeInit and the kinds of noise in the stand-in for the WebUI.

The start and the result of each iteration are recorded at the host's own samplers. The expected start is computed from
them with diffusers' mixing and filter. The host alone then makes the last iteration from that noise.
"""
from __future__ import annotations

import io
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers.pipelines.free_init_utils import FreeInitMixin
from PIL import Image
from slow_cases import slow

sys.path.append(str(Path(__file__).parent))
from test_standin_adapter import (
    REQUEST,
    animate,
    error,
    failing,
    frames_of,
    host,
    library,
    memory,
    plain,
    snapshot,
)

ALPHA = float(torch.cumprod(1 - torch.linspace(0.00085, 0.012, 1000, dtype=torch.float64), 0)[-1])
STILL = {"model": "still.safetensors", "returns": "frames"}
THREE = {**STILL, "freeinit_iterations": 3}


@pytest.fixture
def passes(host, monkeypatch):
    """The calls of the host's samplers: method, noise, picture, number of steps done, and resulting latents.

    `states` has (iteration, sampling_step, sampling_steps, step of the denoiser) at each call of the model.
    """
    calls = []
    for module in ("sd_samplers_kdiffusion", "sd_samplers_timesteps"):
        for kind in vars(sys.modules[f"modules.{module}"]).values():
            if not isinstance(kind, type) or not kind.__name__.endswith("Sampler") or "sample" not in vars(kind):
                continue
            for name in ("sample", "sample_img2img"):
                def call(self, p, *args, _plain=vars(kind)[name], _name=name, **kwargs):
                    picture, noise = (args[0], args[1]) if _name == "sample_img2img" else (None, args[0])
                    one = SimpleNamespace(name=_name, noise=noise.clone(), picture=picture, p=p, states=[], inputs=[],
                                          alphas=host.shared.sd_model.alphas_cumprod.clone())
                    calls.append(one)
                    one.made = _plain(self, p, *args, **kwargs)
                    one.steps = self.model_wrap_cfg.steps
                    return one.made

                monkeypatch.setattr(kind, name, call)
    state = host.shared.state

    def look(module, args):
        one = calls[-1]
        one.states.append((state.sampling_step, state.sampling_steps, one.p.sampler.model_wrap_cfg.step))
        one.inputs.append(args[0].clone())

    handle = host.shared.sd_model.model.diffusion_model.register_forward_pre_hook(look)
    yield calls
    handle.remove()


def noises(seeds, times=1, shape=(4, 8, 8)):
    """Return the draws of the host's generators, [frames c h w] each."""
    sources = [torch.Generator().manual_seed(seed) for seed in seeds]
    return [torch.stack([torch.randn(shape, generator=source) for source in sources]) for _ in range(times)]


def mixed(low, high, kind="butterworth", order=4, d_s=0.25, d_t=0.25):
    """Return diffusers' mixture of the frequencies. For even sizes only."""
    mixin = FreeInitMixin()
    low, high = (x.transpose(0, 1)[None] for x in (low, high))
    keep = mixin._get_free_init_freq_filter(low.shape, "cpu", kind, order, d_s, d_t)
    return mixin._apply_freq_filter(low, high, keep)[0].transpose(0, 1)


@pytest.mark.parametrize("sampler", ["Euler", slow("Heun"), slow("DDIM")])
def test_every_iteration_starts_from_noise_with_the_clip_before(host, passes, sampler):
    more = {"freeinit_filter": "gaussian", "freeinit_d_s": 0.4, "freeinit_d_t": 0.6}
    frames = frames_of(animate(host, {**THREE, **more}, sampler_name=sampler))
    first, *fresh = noises(range(7, 13), times=3)
    assert len(passes) == 3 and torch.equal(passes[0].noise, first)
    for before, now, new in zip(passes, passes[1:], fresh):
        seen = ALPHA**0.5 * before.made + (1 - ALPHA) ** 0.5 * first
        torch.testing.assert_close(now.noise, mixed(seen, new, "gaussian", 4, 0.4, 0.6), atol=2e-5, rtol=1e-4)
    wanted = passes[-1].noise
    passes.clear()

    class Starts(host.scripts.Script):
        def title(self):
            return "Starts"

        def show(self, is_img2img):
            return host.scripts.AlwaysVisible

        def process_before_every_sampling(self, p, *args, noise, **kwargs):
            noise.copy_(wanted)

    host.scripts.scripts_data.append((Starts, "starts.py"))
    host.show()
    theirs = frames_of(host.request("txt2img", {**REQUEST, "sampler_name": sampler, "batch_size": 6,
                                                "override_settings": {"sd_model_checkpoint": "linear"}}))
    assert np.abs(frames.astype(int) - theirs).max() <= 1


def test_fresh_noise_goes_on_where_the_steps_left_the_generators(host, passes):
    animate(host, {**STILL, "freeinit_iterations": 2}, sampler_name="Euler a", steps=3)
    draws = noises(range(7, 13), times=4)  # the start, two steps' noise, and the fresh noise
    seen = ALPHA**0.5 * passes[0].made + (1 - ALPHA) ** 0.5 * draws[0]
    torch.testing.assert_close(passes[1].noise, mixed(seen, draws[3]), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("fields", [{}, slow({"sampler_name": "Heun"}), slow({"sampler_name": "DDIM"}),
                                    {"prompt": "a red circle AND a blue square :0.5"},
                                    slow({"override_settings": {"batch_cond_uncond": False}})], ids=str)
def test_each_iteration_sees_its_steps_from_the_first(host, passes, fields):
    """ControlNet, schedules inside prompts and the refiner's switch read these steps."""
    animate(host, {"freeinit_iterations": 2}, **{"steps": 4, **fields})
    assert passes[0].states == passes[1].states and passes[0].states[0] == (0, 4, 0)
    assert len(set(passes[0].states)) > 2


@pytest.mark.parametrize("iterations, steps, wanted", [slow(3, 6, [2, 4, 6]), (3, 2, [1, 1, 2]),
                                                       slow(4, 6, [1, 3, 4, 6])])
def test_fast_sampling(host, passes, iterations, steps, wanted):
    animate(host, {**THREE, "freeinit_iterations": iterations, "freeinit_fast": True}, steps=steps)
    assert [one.steps for one in passes] == wanted
    assert [len(one.states) for one in passes] == wanted


def test_with_fast_sampling_prompts_change_at_the_same_share(host):
    from modules import prompt_parser as parser

    from animatediff.hosts.a1111.sampler import sooner

    entries = [parser.ScheduledPromptConditioning(10, "a"), parser.ScheduledPromptConditioning(20, "b")]
    found = sooner([entries], 0.3)
    assert [[tuple(entry) for entry in row] for row in found] == [[(3, "a"), (6, "b")]]
    part = parser.ComposableScheduledPromptConditioning(entries, 0.7)
    many = sooner(parser.MulticondLearnedConditioning(shape=(1,), batch=[[part]]), 0.3)
    assert many.shape == (1,) and many.batch[0][0].weight == 0.7
    assert [tuple(entry) for entry in many.batch[0][0].schedules] == [(3, "a"), (6, "b")]
    assert [tuple(entry) for entry in entries] == [(10, "a"), (20, "b")], "the host keeps these"
    assert sooner(many, 1) is many


@pytest.mark.slow
def test_one_iteration_is_without(host):
    without, one, two = (frames_of(animate(host, {"returns": "frames", **settings})) for settings in (
        {}, {"freeinit_iterations": 1, "freeinit_filter": "box", "freeinit_fast": True}, {"freeinit_iterations": 2}))
    assert (one == without).all() and (two != without).any()


@pytest.mark.slow
def test_the_older_extensions_clients(host, passes):
    answer = animate(host, {**STILL, "freeinit_enable": True, "freeinit_filter": "ideal", "freeinit_ds": 0.3,
                            "freeinit_dt": 0.3, "freeinit_iters": 2})
    assert len(passes) == 2 and "freeinit_iterations: 2, freeinit_filter: ideal, freeinit_d_s: 0.3" in (
        answer.info["infotexts"][0])


def test_the_second_pass_is_sampled_once(host, passes):
    animate(host, THREE, enable_hr=True, hr_upscaler="Latent", denoising_strength=0.6)
    assert [one.name for one in passes] == ["sample"] * 3 + ["sample_img2img"]


@pytest.mark.slow
def test_several_clips_of_a_job(host):
    both = frames_of(animate(host, {**THREE, "freeinit_iterations": 2}, n_iter=2))
    alone = frames_of(animate(host, {**THREE, "freeinit_iterations": 2}, seed=REQUEST["seed"] + 6))
    assert (both[6:] == alone).all()


# -- from a picture ----------------------------------------------------------------------------------------------------


def from_picture(host, settings, **fields):
    picture = Image.linear_gradient("L").resize((64, 64)).convert("RGB")
    return animate(host, settings, "img2img", **{"init_images": [picture], "denoising_strength": 0.7,
                                                 "steps": 6, **fields})


@pytest.mark.parametrize("sampler", [slow("Euler"), slow("Heun"), "DDIM"])
def test_from_a_picture_the_clip_takes_its_place_in_what_is_kept(host, passes, sampler):
    """With a box filter that keeps everything, the UNet's first input differs by √ᾱ·(clip - picture).

    ᾱ is that of the starting level. This holds for every sampler's own scaling.
    """
    everything = {"freeinit_filter": "box", "freeinit_d_s": 1, "freeinit_d_t": 1, "freeinit_iterations": 2}
    from_picture(host, {**STILL, **everything}, sampler_name=sampler)
    first, second = passes
    away = (second.inputs[0] - first.inputs[0])[:6].flatten().double()
    clip = (first.made - first.picture).flatten().double()
    share = float(away @ clip / (clip @ clip))
    assert (away - share * clip).abs().max() < 1e-4 * away.abs().max()
    # The picture itself has the same share in the input.
    start = first.inputs[0][:6].flatten().double()
    basis = torch.stack([first.picture.flatten(), first.noise.flatten()], 1).double()
    in_input = torch.linalg.lstsq(basis, start[:, None]).solution.flatten()
    assert share == pytest.approx(float(in_input[0]), rel=1e-4)


@pytest.mark.slow
def test_from_a_picture_high_frequencies_are_fresh_and_scaled_as_the_hosts(host, passes):
    nothing = {"freeinit_d_s": 0, "freeinit_iterations": 2}
    from_picture(host, {**STILL, **nothing}, initial_noise_multiplier=0.8)
    first, _, fresh = noises(range(7, 13), times=3)  # the second is mixed into the picture, frame by frame
    torch.testing.assert_close(passes[0].noise, 0.8 * first)
    torch.testing.assert_close(passes[1].noise, 0.8 * fresh, atol=1e-5, rtol=0)


@pytest.mark.slow
def test_from_a_picture_with_fast_sampling(host, passes):
    from_picture(host, {**THREE, "freeinit_fast": True})
    assert [one.steps for one in passes] == [1, 3, 5]  # int(0.7 · 6) + 1 are done
    from_picture(host, {**THREE, "freeinit_fast": True}, denoising_strength=0)
    assert [one.steps for one in passes[3:]] == [1, 1, 1]


# -- progress ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fast", [slow(False), True])
def test_progress_counts_all_iterations(host, fast):
    state, seen, texts, previews = host.shared.state, [], [], []

    def note(module, args):
        seen.append((state.job_no + state.sampling_step / state.sampling_steps) / state.job_count)
        texts.append(state.textinfo)
        previews.append(state.sampling_step - state.current_image_sampling_step)

    handle = host.shared.sd_model.model.diffusion_model.register_forward_pre_hook(note)
    try:
        animate(host, {"freeinit_iterations": 3, "freeinit_fast": fast, "batch_size": 3, "overlap": 0,
                       "context_schedule": "batched"}, steps=6)
    finally:
        handle.remove()
    assert len(seen) == 2 * (2 + 4 + 6 if fast else 18)
    assert seen == pytest.approx([i / len(seen) for i in range(len(seen))])
    assert texts[-1] == "AnimateDiff: iteration 3 of 3, step 6 of 6, window 1 of 2" \
        and state.job_no == int(state.job_no)
    assert min(previews) == 0, "nothing waits for the steps of the iteration before"


# -- ends --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["interrupt", slow("skip")])
@pytest.mark.parametrize("call", [slow(4), slow(6), 8])
def test_stopped_in_a_later_iteration_the_clip_is_the_last_whole_one(host, what, call):
    """Three steps each: calls 4 to 6 belong to the second iteration, 7 to 9 to the third."""
    iterations = (call - 1) // 3
    alone = frames_of(animate(host, {"returns": "frames", "freeinit_iterations": iterations}))
    failing(host, call, getattr(host.state, what))
    answer = animate(host, {"returns": "frames", "freeinit_iterations": 3})
    assert (frames_of(answer) == alone).all()
    assert f"AnimateDiff interrupted: {iterations} of 3 FreeInit iterations done" in answer.info["infotexts"][0]
    notes = answer.info["extra_generation_params"]["AnimateDiff notes"]
    assert f"interrupted after {iterations} of 3 FreeInit iterations" in notes


def test_stopped_in_the_first_iteration_it_is_the_hosts_own_result(host, passes):
    failing(host, 2, host.state.interrupt)
    stopped = animate(host, {"returns": "frames", "freeinit_iterations": 3})
    assert len(passes) == 1
    assert "1 of 3 steps of FreeInit iteration 1 of 3 done" in stopped.info["infotexts"][0]
    failing(host, 2, host.state.interrupt)
    assert (frames_of(stopped) == frames_of(animate(host, {"returns": "frames"}))).all()


def test_stopped_before_the_second_pass(host, passes):
    failing(host, 5, host.state.interrupt)
    answer = animate(host, {"returns": "frames", "freeinit_iterations": 3}, enable_hr=True, hr_upscaler="Latent")
    assert [one.name for one in passes] == ["sample"] * 2 and frames_of(answer).shape[1:3] == (64, 64)


@pytest.mark.slow
def test_the_refiner_comes_in_every_iteration(host, passes):
    fields = {"refiner_checkpoint": "second", "refiner_switch_at": 0.5, "steps": 4}
    model, used = host.shared.sd_model, []
    handle = model.model.diffusion_model.register_forward_pre_hook(
        lambda *_: used.append(host.shared.sd_model.sd_checkpoint_info.name))
    try:
        refined = frames_of(animate(host, {**STILL, "freeinit_iterations": 2}, **fields))
    finally:
        handle.remove()
    assert used == (["demo"] * 2 + ["second"] * 2) * 2
    alone = frames_of(animate(host, {**STILL, "freeinit_iterations": 2}, steps=4))
    assert (refined != alone).any()


CASES = {
    "a clip": {}, "DDIM": {"sampler_name": "DDIM"}, "Hires. fix": {"enable_hr": True, "hr_upscaler": "Latent"},
    "the refiner": {"refiner_checkpoint": "second", "refiner_switch_at": 0.5},
    "an error": {"call": (error, 5)}, "out of memory": {"call": (memory, 8)},
    "an interrupt": {"call": ("interrupt", 5)}, "a skip": {"call": ("skip", 5), "n_iter": 2},
}


SLOW = ("DDIM", "Hires. fix", "the refiner", "a skip")


@pytest.mark.parametrize("name", [slow(name) if name in SLOW else name for name in CASES])
def test_everything_is_as_before(host, name):
    fields = dict(CASES[name])
    wanted, before = plain(host), snapshot(host)
    what, call = fields.pop("call", (None, 0))
    if what:
        failing(host, call, getattr(host.state, what) if isinstance(what, str) else what)
    answer = animate(host, {"freeinit_iterations": 3}, **fields)
    assert answer.status == (500 if what is error else 200), answer
    assert plain(host) == wanted and snapshot(host) == before


# -- kinds of noise ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_free_noise_in_both_passes_and_in_the_noise_of_steps(host, passes):
    settings = {**STILL, "noise": "FreeNoise", "video_length": 11, "batch_size": 4, "overlap": 1}
    animate(host, settings, sampler_name="Euler a", steps=2, enable_hr=True,
            hr_upscaler="Latent", denoising_strength=0.6)
    seeds = passes[0].p.seeds
    assert sorted(seeds[4:7]) == seeds[:3] == [7, 8, 9] and len(seeds) == 11
    assert sorted(seeds[3:7]) == sorted(seeds[6:10]) == [7, 8, 9, 10], "each window of 4, 3 frames on"
    assert torch.equal(passes[0].noise, noises(seeds)[0])
    assert torch.equal(passes[1].noise, noises(seeds, shape=(4, 16, 16))[0])
    assert passes[0].p.all_subseeds == [passes[0].p.all_subseeds[0] + seed - 7 for seed in seeds]


@pytest.mark.slow
def test_free_noise_with_free_init(host, passes):
    animate(host, {**STILL, "noise": "FreeNoise", "video_length": 8, "batch_size": 4,
                   "overlap": 1, "freeinit_iterations": 2})
    first, fresh = noises(passes[0].p.seeds, times=2)
    seen = ALPHA**0.5 * passes[0].made + (1 - ALPHA) ** 0.5 * first
    torch.testing.assert_close(passes[1].noise, mixed(seen, fresh), atol=2e-5, rtol=1e-4)


@pytest.mark.slow
def test_free_noise_says_the_seed_that_the_user_gave(host):
    answer = animate(host, {"noise": "FreeNoise", "video_length": 9, "batch_size": 4})
    assert f"Seed: {REQUEST['seed']}" in answer.info["infotexts"][0]
    clip = Image.open(io.BytesIO(answer.images[0]))
    assert clip.n_frames == 9 \
        and animate(host, {"noise": "FreeNoise", "video_length": 9, "batch_size": 4}).images == answer.images
