"""FreeInit in the engine: parity with diffusers' pipeline with the same weights and noise, calls and events."""
from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
from diffusers import AnimateDiffPipeline, DDIMScheduler, MotionAdapter, UNetMotionModel
from slow_cases import slow

from animatediff.engine import pipeline as engine
from animatediff.engine import samplers
from animatediff.engine.pipeline import Pipeline
from animatediff.engine.sample import Sampling
from animatediff.motion import build
from animatediff.motion.naming import to_diffusers
from animatediff.sampling import noise
from animatediff.settings import parse

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def settings(**more):
    return parse({"enable": True, "prompt": "a red circle", "seed": 3, "steps": 2, "frames": 3, "context_length": 4,
                  "size": "64x64", "sampler": "DDIM", "freeinit_iterations": 3, **more})


@pytest.mark.parametrize("more", [slow({}), {"freeinit_fast": True},
                                  slow({"freeinit_filter": "gaussian", "freeinit_d_t": 0.6}),
                                  slow({"freeinit_filter": "ideal", "noise": "per clip"})], ids=str)
def test_parity_with_diffusers_free_init(pipeline, tiny, monkeypatch, more):
    """The conditions make both implementations comparable.

    * 2, 4 or 8 steps have integer timesteps.
    * The module's GroupNorms are as in diffusers.
    * The number of frames is even, so the filters agree.
    * Both start from unscaled noise. Ours would otherwise scale it by √(1 − ᾱ).
    """
    theirs_like = dict(module_norm_over_frames=True, resnet_norm_over_frames=False, out_norm_over_frames=False)
    loaded = engine.load_module(tiny.module)
    module = build(loaded.widths, replace(loaded.family, **theirs_like), frames=loaded.max_frames)
    module.load_state_dict(loaded.state_dict())
    adapter = MotionAdapter(block_out_channels=module.widths, motion_max_seq_length=module.max_frames,
                            use_motion_mid_block=module.family.has_mid)
    adapter.load_state_dict(to_diffusers(module.state_dict()))
    unet = UNetMotionModel.from_unet2d(pipeline.unet, adapter).eval()
    ours = Pipeline(pipeline.components, module)
    s = settings(steps=4, frames=4, freeinit_iterations=2, cfg=3.0, negative="dull", **more)

    sources = noise.generators(s.noise, s.seed, 4, 4)
    shape = (4, 4, 8, 8)
    first, fresh = noise.draw(sources, shape), noise.draw(sources, shape)
    video = lambda x: x.transpose(0, 1)[None]  # noqa: E731
    monkeypatch.setattr("diffusers.pipelines.free_init_utils.randn_tensor", lambda *_, **__: video(fresh))
    monkeypatch.setattr(samplers.Run, "start", lambda self, noise, clean=0.0: noise)
    scheduler = DDIMScheduler(beta_schedule="linear", beta_start=0.00085, beta_end=0.012, clip_sample=False,
                              timestep_spacing="trailing")
    theirs = AnimateDiffPipeline(pipeline.vae, None, None, unet, None, scheduler)
    theirs.set_progress_bar_config(disable=True)
    theirs.enable_free_init(num_iters=2, use_fast_sampling=s.freeinit_fast, method=s.freeinit_filter,
                            order=s.freeinit_order, spatial_stop_frequency=s.freeinit_d_s,
                            temporal_stop_frequency=s.freeinit_d_t)
    starts = []
    mix = theirs._apply_freq_filter
    monkeypatch.setattr(theirs, "_apply_freq_filter", lambda *a, **k: starts.append(mix(*a, **k)) or starts[-1])
    cond, uncond = pipeline.text.encode([s.prompt], [s.negative])
    expected = theirs(prompt_embeds=cond, negative_prompt_embeds=uncond, latents=video(first), num_inference_steps=4,
                      guidance_scale=3.0, height=64, width=64, num_frames=4,
                      output_type="latent").frames[0].transpose(0, 1)

    begun = []
    sampled = Sampling.sample_once
    monkeypatch.setattr(Sampling, "sample_once", lambda self, part, start, *a, **k: (
        begun.append(start.noise) or sampled(self, part, start, *a, **k)))
    found = ours.sample(s)
    scale = expected.abs().max().item()
    torch.testing.assert_close(begun[0], first)
    torch.testing.assert_close(begun[1], starts[0][0].transpose(0, 1), atol=1e-4 * scale, rtol=1e-4)
    torch.testing.assert_close(found, expected, atol=2e-4 * scale, rtol=1e-3)
    once = ours.sample(replace(s, freeinit_iterations=1))
    assert (found - once).abs().max() > 0.01 * scale


def test_one_iteration_equals_no_freeinit(pipeline):
    plain = pipeline.sample(settings(freeinit_iterations=1))
    assert torch.equal(plain,
                       pipeline.sample(settings(freeinit_iterations=1, freeinit_fast=True, freeinit_filter="box")))
    assert not torch.allclose(plain, pipeline.sample(settings()), atol=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("kind", noise.KINDS)
def test_same_seed_repeats_the_clip_with_all_kinds_of_noise(pipeline, kind):
    s = settings(noise=kind, sampler="Euler a", frames=7, freeinit_iterations=2)
    clip = pipeline.sample(s)
    assert torch.equal(clip, pipeline.sample(s))
    assert not torch.allclose(clip, pipeline.sample(replace(s, seed=4)), atol=1e-2)


@pytest.mark.slow
def test_kinds_of_noise_give_different_clips(pipeline):
    clips = [pipeline.sample(settings(noise=kind, frames=9, freeinit_iterations=1)) for kind in noise.KINDS]
    assert all(not torch.allclose(a, b, atol=1e-2) for i, a in enumerate(clips) for b in clips[:i])


@pytest.mark.slow
def test_free_noise_is_shuffled_by_the_overlap(pipeline, monkeypatch):
    starts = []
    for overlap in (0, 3):
        s = settings(noise="FreeNoise", frames=12, overlap=overlap, freeinit_iterations=1, steps=1)
        sources = noise.generators("FreeNoise", 3, 12, 4, overlap)
        starts.append(noise.draw(sources, (12, 4, 8, 8)))
        given = []
        sampled = Sampling.sample_once
        with monkeypatch.context() as patch:
            patch.setattr(Sampling, "sample_once", lambda self, part, start, *a, **k: (
                given.append(start.noise) or sampled(self, part, start, *a, **k)))
            pipeline.sample(s)
        assert torch.equal(given[0], starts[-1])
    assert not torch.equal(*starts)


@pytest.mark.parametrize("more, steps", [({}, [4, 4, 4]), ({"freeinit_fast": True}, [1, 2, 4]),
                                         ({"sampler": "Heun"}, [4, 4, 4])], ids=str)
@pytest.mark.slow
def test_calls_and_events_of_all_iterations(pipeline, more, steps):
    s = settings(steps=4, frames=6, overlap=2, context_schedule="static standard", cfg=1, **more)
    events, calls = [], []
    hook = pipeline.unet.register_forward_pre_hook(lambda *_: calls.append(1))
    try:
        pipeline.sample(s, events.append)
    finally:
        hook.remove()
    told = [e for e in events if e.kind == "window"]
    assert len(calls) == len(told) == pipeline.plan(s).calls()
    assert {e.iterations for e in told} == {3} and [e.iteration for e in told] == sorted(e.iteration for e in told)
    ends = [(e.iteration, e.index, e.total) for e in events if e.kind == "step"]
    assert ends == [(i, k, n) for i, n in enumerate(steps, 1) for k in range(1, n + 1)]


def test_stills_ignore_freeinit(pipeline):
    s = settings(enable=False)
    assert torch.equal(pipeline.sample(s), pipeline.sample(replace(s, freeinit_iterations=1)))
    assert pipeline.plan(s).calls() == 2


def test_progress_bar_reaches_its_end(pipeline, capsys):
    from animatediff.faces.cli.output import Progress

    s = settings(freeinit_iterations=2, cfg=1)
    with Progress(pipeline.plan(s).calls(), hidden=False) as progress:
        pipeline.sample(s, progress)
        assert progress.bar.n == progress.bar.total == 4
    assert re.search(r"iteration 2 of 2, step 2 of 2", capsys.readouterr().err)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_errors_in_the_second_iteration_leave_no_hooks(pipeline, error):
    def stop(event):
        if event.iteration == 2:
            raise error

    with pytest.raises(error):
        pipeline.sample(settings(), stop)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in pipeline.unet.modules())


def test_notices(pipeline):
    assert any("FreeInit keeps nothing" in note for note in pipeline.plan(settings(freeinit_d_t=0)).notices)
    assert any("nothing to shuffle" in note for note in pipeline.plan(settings(noise="FreeNoise")).notices)
    said = " ".join(pipeline.plan(settings(noise="FreeNoise", frames=9)).notices)
    assert "FreeInit" not in said and "FreeNoise" not in said
