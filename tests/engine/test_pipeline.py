"""The engine with a tiny random model: parity with diffusers' pipeline, prompts per frame, and unchanged networks."""
from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionPipeline
from slow_cases import slow
from tiny_models import write_module

from animatediff import windows
from animatediff.clip import provenance
from animatediff.engine import device, models, vae
from animatediff.engine import pipeline as engine
from animatediff.engine.pipeline import Pipeline
from animatediff.errors import ModelError, SettingsError
from animatediff.motion import packed
from animatediff.settings import parse

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def settings(**more):
    return parse({"enable": True, "prompt": "a red circle", "seed": 3, "steps": 2, "frames": 3, "context_length": 4,
                  "size": "64x64", "sampler": "Euler", **more})


class Spy:
    """Record the number of rows and tokens of all UNet calls within the context."""

    def __init__(self, unet):
        self.unet, self.rows, self.tokens = unet, [], []

    def __enter__(self):
        def look(module, args, kwargs):
            self.rows.append(args[0].shape[0])
            self.tokens.append(kwargs["encoder_hidden_states"].shape[1])

        self.handle = self.unet.register_forward_pre_hook(look, with_kwargs=True)
        return self

    def __exit__(self, *error):
        self.handle.remove()


def hooks(unet):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in unet.modules())


def plain(pipeline):
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return pipeline.unet(x, 500, encoder_hidden_states=torch.ones(2, 77, 16)).sample


@pytest.mark.parametrize("cfg", [slow(1.0), 6.0])
@pytest.mark.parametrize("enable", [False, True])
def test_stills_parity_with_diffusers_pipeline(pipeline, tiny, enable, cfg):
    """A module with zero proj_out gives a batch of stills with the module's noise schedule.

    Four steps have integer timesteps.
    """
    module = engine.load_module(tiny.module)
    for site in module.sites().values():
        site.temporal_transformer.proj_out.weight.zero_()
        site.temporal_transformer.proj_out.bias.zero_()
    ours = Pipeline(pipeline.components, module)
    s = settings(enable=enable, steps=4, cfg=cfg, negative="dull")
    noise = torch.stack([torch.randn(4, 8, 8, generator=torch.Generator("cpu").manual_seed(3 + i)) for i in range(3)])
    scheduler = EulerDiscreteScheduler(beta_schedule="linear" if enable else "scaled_linear", beta_start=0.00085,
                                       beta_end=0.012, timestep_spacing="linspace")
    theirs = StableDiffusionPipeline(pipeline.vae, None, None, pipeline.unet, scheduler, None, None,
                                     requires_safety_checker=False)
    theirs.set_progress_bar_config(disable=True)
    cond, uncond = pipeline.text.encode([s.prompt], [s.negative])
    options = dict(prompt_embeds=cond.repeat(3, 1, 1), negative_prompt_embeds=uncond.repeat(3, 1, 1), latents=noise,
                   num_inference_steps=4, guidance_scale=cfg)
    expected = theirs(**options, output_type="latent").images
    got = ours.sample(s)
    torch.testing.assert_close(got, expected, atol=1e-4 * expected.abs().max().item(), rtol=1e-4)
    pictures = np.stack(theirs.image_processor.postprocess(
        torch.cat([pipeline.vae.decode(x[None] / 0.5).sample for x in got]), output_type="np"))
    frames = np.stack(list(ours.decode(got)))
    assert frames.dtype == np.uint8 and np.abs(frames - pictures * 255).max() <= 0.51


def test_motion_changes_the_clip_and_the_seed_repeats_it(pipeline):
    clip = pipeline.sample(settings())
    assert torch.equal(clip, pipeline.sample(settings()))
    assert not torch.allclose(clip, pipeline.sample(settings(seed=4)), atol=1e-2)
    other = pipeline.sample(settings(prompt="x"))
    assert not torch.allclose(clip, other, atol=1e-4)
    assert not torch.allclose(clip[:1], pipeline.sample(settings(frames=1)), atol=1e-2)  # other frames have an effect


def test_each_still_is_the_picture_of_its_seed(pipeline):
    clip = pipeline.sample(settings(enable=False, frames=5))
    for i in (0, 4):
        still = pipeline.sample(settings(enable=False, frames=1, seed=3 + i))
        torch.testing.assert_close(clip[i : i + 1], still, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("which", ["prompt", "negative"])
def test_stills_of_a_travelling_prompt(pipeline, which):
    """With cuts, each frame is the still of its prompt. A frame between two key frames differs from both stills."""
    def clip(text, **more):
        return pipeline.sample(settings(enable=False, frames=4, cfg=3.0, **{which: text}, **more))

    travelling, a, b = clip("0: x\n2: y", travel_interpolation="hold"), clip("x"), clip("y")
    torch.testing.assert_close(travelling[:2], a[:2], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(travelling[2:], b[2:], atol=1e-4, rtol=1e-4)
    mixed = clip("0: x\n2: y")
    torch.testing.assert_close(mixed[[0, 2]], travelling[[0, 2]], atol=1e-4, rtol=1e-4)
    assert (mixed[1] - a[1]).abs().max() > 1e-3 and (mixed[1] - b[1]).abs().max() > 1e-3


def test_windows_use_the_prompts_of_their_frames(pipeline):
    """Each half of the clip equals that of the clip with its prompt alone, since windows do not overlap."""
    asked = dict(frames=40, context_length=4, overlap=0, context_schedule="static standard", steps=1)
    travelling = pipeline.sample(settings(prompt="0: x\n20: y", travel_interpolation="hold", **asked))
    for text, frames in (("x", slice(0, 20)), ("y", slice(20, 40))):
        own = pipeline.sample(settings(prompt=text, **asked))
        torch.testing.assert_close(travelling[frames], own[frames], atol=1e-4, rtol=1e-4)


def test_prompts_are_encoded_once_and_recorded_by_frame(pipeline, monkeypatch):
    seen = []
    encode = pipeline.text.encode
    monkeypatch.setattr(pipeline.text, "encode", lambda *texts: seen.append(texts) or encode(*texts))
    asked = settings(prompt="0: x\n2: y\n3: x", frames=6, context_length=3)
    pipeline.sample(asked)
    assert seen == [(("x", "y"), ("",))]
    assert provenance.metadata(pipeline.plan(asked), pipeline)["prompts"] == {"0": "x", "2": "y", "3": "x"}


def test_invalid_prompt_is_refused_before_the_run(pipeline):
    with pytest.raises(SettingsError, match="line 2, column 1: .* is between"):
        pipeline.plan(settings(prompt="0: a\nb\n2: c"))


@pytest.mark.parametrize("sampler", ["Euler a", "DPM++ SDE", slow("LCM"), slow("Heun")])
def test_calls_events_and_memory(pipeline, sampler):
    events = []
    s = settings(frames=7, steps=2, sampler=sampler, context_schedule="uniform", closed_loop="A")
    with Spy(pipeline.unet) as spy:
        frames = list(pipeline.render(s, events.append))
    assert len(frames) == 7 and all(f.shape == (64, 64, 3) and f.dtype == np.uint8 for f in frames)
    assert len(spy.rows) == pipeline.plan(s).calls() == sum(e.kind == "window" for e in events)
    assert set(spy.rows) == {8}  # cond and uncond of 4 frames
    assert [e.index for e in events if e.kind == "step"] == [1, 2]
    assert [(e.index, e.total) for e in events if e.kind == "frame"] == [(i, 7) for i in range(1, 8)]
    step_one = [e.frames for e in events if e.kind == "window" and e.step == 1]
    plan = windows.plan(7, 4, closed_loop="A", step=0)
    assert step_one == plan * (len(step_one) // len(plan))


@pytest.mark.slow
def test_views_call_the_unet_once_per_step(pipeline):
    """A clip of one window is the same as without views, bit for bit."""
    s, events = settings(frames=9, overlap=1, context_schedule="views"), []
    with Spy(pipeline.unet) as spy:
        seen = pipeline.sample(s, events.append)
    assert spy.rows == [18, 18] and pipeline.plan(s).calls() == 2
    assert [event.frames for event in events if event.kind == "window"] == [tuple(range(9))] * 2
    windowed = pipeline.sample(settings(frames=9, overlap=1, context_schedule="static standard"))
    stills = pipeline.sample(settings(frames=9, enable=False))
    assert (seen - windowed).abs().mean() < 0.5 * (seen - stills).abs().mean()
    one = settings(frames=4, context_schedule="views")
    assert torch.equal(pipeline.sample(one), pipeline.sample(settings(frames=4)))
    assert hooks(pipeline.unet) == 0 and pipeline.module.window == ()


@pytest.mark.slow
def test_views_with_other_features(pipeline):
    """Views with a motion scale per frame, a motion effect, seam repair and a seamless loop.

    With the motion effect 0, windows make no difference.
    """
    s = settings(frames=9, overlap=1, context_schedule="views", closed_loop="seamless", seam_repair=0.5)
    varied = settings(frames=9, overlap=1, context_schedule="views", motion_scale="0: 0.5, 8: 1.5")
    assert torch.isfinite(pipeline.sample(s)).all() and torch.isfinite(pipeline.sample(varied)).all()
    without = pipeline.sample(settings(frames=9, overlap=1, context_schedule="views", motion_effect="0"))
    windowed = pipeline.sample(settings(frames=9, overlap=1, context_schedule="batched", motion_effect="0"))
    torch.testing.assert_close(without, windowed, atol=0.01, rtol=0.001)  # the values reach 50


def test_cfg_1_skips_the_negative_prompt(pipeline):
    with Spy(pipeline.unet) as spy:
        without = pipeline.sample(settings(cfg=1, negative="dull"))
    assert set(spy.rows) == {3}
    torch.testing.assert_close(without, pipeline.sample(settings(cfg=1)))
    near = pipeline.sample(settings(cfg=1.0001, negative="dull"))
    torch.testing.assert_close(without, near, atol=0.02, rtol=0.02)


def test_prompt_and_negative_prompt_of_different_lengths(pipeline):
    with Spy(pipeline.unet) as spy:
        clip = pipeline.sample(settings(prompt="a " * 50, negative="b " * 200))
    assert set(spy.tokens) == {77 * 3} and torch.isfinite(clip).all()


def test_clip_of_one_window_with_closed_loop_a_plays_back(pipeline, monkeypatch):
    decoded, picture = [], vae.decode
    monkeypatch.setattr(vae, "decode", lambda *given, **more: decoded.append(given) or picture(*given, **more))
    out = list(pipeline.render(settings(frames=4, closed_loop="A")))
    assert len(decoded) == 4  # frames that play twice are decoded once
    straight = list(pipeline.render(settings(frames=4)))
    assert len(out) == 6
    for here, frame in zip(out, (0, 1, 2, 3, 2, 1)):
        np.testing.assert_array_equal(here, straight[frame])


def test_frames_are_yielded_one_by_one(pipeline):
    decoded = []
    frames = pipeline.render(settings(frames=4), lambda e: decoded.append(e.index) if e.kind == "frame" else None)
    next(frames)
    assert decoded == [1]
    assert torch.is_grad_enabled()


def test_keys_of_a_shared_prompt_are_computed_once(pipeline):
    rows = []
    layer = next(part for name, part in pipeline.unet.named_modules() if name.endswith("attn2.to_k"))
    plainly = layer.forward
    layer.forward = lambda x: rows.append(len(x)) or plainly(x)
    try:
        pipeline.sample(settings())
    finally:
        del layer.forward
    assert set(rows) == {2}, "prompt and negative prompt, for all frames"


class Stop(Exception):
    pass


@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
def test_packed_weights_are_released_after_the_run(pipeline, error, monkeypatch):
    monkeypatch.setattr(packed, "is_faster", lambda: True)
    sites, seen = [site.temporal_transformer for site in pipeline.module.sites().values()], []

    def look(event):
        seen.append(sum(site.packed is not None for site in sites))
        if error:
            raise error

    try:
        pipeline.sample(settings(), look)
    except KeyboardInterrupt:
        assert error
    assert seen[0] == len(sites) and not any(site.packed for site in sites)


@pytest.mark.parametrize("error", [slow(Stop), KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("kind", ["window", "step", "frame"])
def test_errors_leave_the_unet_unchanged(pipeline, error, kind):
    before, keys = plain(pipeline), list(pipeline.unet.state_dict())

    def interrupt(event):
        if event.kind == kind:
            assert (hooks(pipeline.unet) == 0) == (kind == "frame")
            raise error

    with pytest.raises(error):
        list(pipeline.render(settings(), interrupt))
    assert hooks(pipeline.unet) == 0 and list(pipeline.unet.state_dict()) == keys
    assert torch.equal(plain(pipeline), before)
    list(pipeline.render(settings()))  # the next run works
    assert torch.equal(plain(pipeline), before)


def test_invalid_settings_are_refused_before_the_first_call(pipeline):
    with Spy(pipeline.unet) as spy:
        with pytest.raises(ModelError, match="40.*32"):
            pipeline.render(settings(frames=50, context_length=40))
        with pytest.raises(SettingsError, match="50"):
            pipeline.render(settings(sampler="LCM", steps=60))
        with pytest.raises(ModelError, match="without a motion module"):
            Pipeline(pipeline.components).render(settings())
    assert not spy.rows
    pipeline.plan(settings(frames=50, context_length=16))
    pipeline.plan(settings(frames=20, context_length=40))  # the window has only 20 frames


def test_modules_that_do_not_fit_are_refused(pipeline, tiny, tmp_path):
    for name, options, words in (("wide", {"widths": (64, 64, 64, 64)}, "64/64/64/64.*32/32/32/32"),
                                 ("xl", {"widths": (32, 32, 32), "family": "AnimateDiff-SDXL"}, "SDXL.*SD1.5")):
        path = write_module(tmp_path / f"{name}.safetensors", **options)
        with pytest.raises(ModelError, match=words):
            Pipeline(pipeline.components, engine.load_module(path))
    with pytest.raises(ModelError, match="no motion module is chosen"):
        Pipeline.load(tiny.checkpoint)
    with pytest.raises(ModelError, match="SD1.5 checkpoint"):
        Pipeline.load(tiny.checkpoint, tiny.checkpoint)


def test_noise_schedule_is_the_familys(pipeline, tmp_path):
    lcm = engine.load_module(write_module(tmp_path / "lcm.safetensors", "AnimateLCM"))
    moving, still = settings(sampler="LCM", steps=60), settings(enable=False)
    planned = Pipeline(pipeline.components, lcm).plan(moving), pipeline.plan(still)
    highest = [plan.iterations[0].run.sigma_max for plan in planned]
    assert highest == [pytest.approx(25.15, abs=0.01), pytest.approx(14.61, abs=0.01)]


def test_metadata_repeats_the_clip(pipeline, tiny):
    s = pipeline.plan(settings(seed=-1, frames=0, context_length=2)).settings
    assert s.seed >= 0 and s.frames == 2 and pipeline.plan(s).settings == s
    text = provenance.metadata_text(provenance.metadata(pipeline.plan(s), pipeline))
    told = json.loads(text)
    assert told["seed"] == s.seed and told["motion_module"]["family"] == "v2"
    assert told["motion_module"]["name"] == told["settings"]["motion_module"] == tiny.module.name
    assert len(told["motion_module"]["sha256"]) == 64
    assert str(tiny.folder.parent) not in text  # no paths of the user's machine
    again = parse(told["settings"])
    assert torch.equal(pipeline.sample(again), pipeline.sample(s))


def test_notices(pipeline):
    said = " ".join(pipeline.plan(settings(cfg=1, negative="x", sampler="LCM", frames=9, closed_loop="A",
                                              context_schedule="batched")).notices)
    for word in ("noisier", "distilled", "no effect at CFG 1", "does not close loops"):
        assert word in said
    assert pipeline.plan(settings(frames=16, context_length=16)).notices == ()


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_half_precision(tiny, pipeline, dtype):
    half = Pipeline.load(tiny.checkpoint, tiny.module, device="cpu", dtype=dtype)
    assert half.dtype == device.DTYPES[dtype]
    a, b = (p.sample(settings(steps=2, frames=2, cfg=1)).flatten() for p in (half, pipeline))
    assert torch.corrcoef(torch.stack([a, b]))[0, 1] > 0.98
    assert next(half.decode(a.view(2, 4, 8, 8))).dtype == np.uint8


def test_vae_that_overflows_runs_in_fp32(tiny, monkeypatch):
    half = Pipeline.load(tiny.checkpoint, tiny.module, device="cpu", dtype="fp16")
    decode, dtypes = half.vae.decode, []

    def overflowing(z):
        dtypes.append(z.dtype)
        out = decode(z)
        if z.dtype == torch.float16:
            out.sample.fill_(float("inf"))
        return out

    monkeypatch.setattr(half.vae, "decode", overflowing)
    before = {name: value.clone() for name, value in half.vae.state_dict().items()}
    frames = list(half.decode(torch.randn(2, 4, 8, 8)))
    assert dtypes == [torch.float16, torch.float32, torch.float32] and frames[0].std() > 0
    after = half.vae.state_dict()
    assert all(after[name].dtype == value.dtype and torch.equal(after[name], value) for name, value in before.items())
    interrupted = half.decode(torch.randn(2, 4, 8, 8))
    next(interrupted)
    interrupted.close()
    assert half.vae.dtype == torch.float16


def test_nan_in_sampling_is_an_error(pipeline, monkeypatch):
    with torch.no_grad():
        bias = pipeline.unet.conv_out.bias.clone()
        pipeline.unet.conv_out.bias.fill_(float("nan"))
    try:
        with pytest.raises(ModelError, match="range of its numbers"):
            pipeline.sample(settings())
    finally:
        with torch.no_grad():
            pipeline.unet.conv_out.bias.copy_(bias)


def test_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert device.pick_device("auto").type == "cpu"
    for name in ("cuda", "cuda:1", "mps"):
        with pytest.raises(ModelError, match=name):
            device.pick_device(name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert device.pick_device("auto").type == "cuda"
    with pytest.raises(ModelError, match="cuda:1"):
        device.pick_device("cuda:1")
    assert device.pick_dtype("auto", torch.device("cuda")) == torch.float16
    assert device.pick_dtype("auto", torch.device("cpu")) == torch.float32


def test_modules_are_found_by_name(tiny, monkeypatch, tmp_path):
    monkeypatch.setenv(models.FOLDER_VARIABLE, str(tiny.folder))
    for name in ("motion_v2.safetensors", "motion_v2", str(tiny.module)):
        assert models.find(name) == tiny.module
    with pytest.raises(ModelError, match="no such motion module"):
        models.find("motion_v3")
    monkeypatch.delenv(models.FOLDER_VARIABLE)
    (tmp_path / "model" / "sub").mkdir(parents=True)
    (tmp_path / "model" / "sub" / "deep.ckpt").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    assert models.find("deep").samefile(tmp_path / "model" / "sub" / "deep.ckpt")


@pytest.mark.parametrize("latent, size", [(8, "64x64"), (None, "512x512"), ((4, 6), "48x32")])
def test_native_size_of_the_image_model(latent, size):
    model = SimpleNamespace(unet=SimpleNamespace(config=SimpleNamespace(sample_size=latent)), scale=8)
    assert Pipeline.own_size.fget(model) == size


def test_default_size_is_the_image_models(pipeline):
    assert pipeline.plan(parse({"enable": True})).settings.size == pipeline.own_size
    assert pipeline.plan(parse({"enable": True, "size": "32x40"})).settings.size == "32x40"
