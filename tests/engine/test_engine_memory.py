"""Memory fallbacks in the engine: their order, equal clips, and unchanged networks after the run."""
from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st
from slow_cases import slow

from animatediff.engine.pipeline import Pipeline
from animatediff.sampling import memory
from animatediff.settings import parse
from animatediff.windows import CLOSED_LOOPS, SCHEDULES

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
TWO, WINDOWS = "windows are denoised 2 at once", "windows are denoised one by one"
APART, PARTS = "prompt and negative prompt are denoised apart", "attention is computed in parts"


@pytest.fixture(scope="module")
def single(tiny):
    return Pipeline.load(tiny.checkpoint, tiny.module, device="cpu", dtype="fp32")


@pytest.fixture(scope="module")
def pipeline(tiny):
    """A pipeline in float64. At this size the innermost norms have one value per group, which amplifies rounding."""
    pipeline = Pipeline.load(tiny.checkpoint, tiny.module, device="cpu", dtype="fp32")
    pipeline.unet.double(), pipeline.module.double()
    return pipeline


def settings(**more):
    return parse({"enable": True, "prompt": "a red circle", "seed": 3, "steps": 1, "frames": 9, "context_length": 4,
                  "overlap": 1, "context_schedule": "static standard", "size": "64x64", "sampler": "Euler", **more})


def state_of(pipeline):
    """Return everything that a fallback may change."""
    unet = pipeline.unet
    shadows = [name for network in (unet, pipeline.module) for name, part in network.named_modules()
               if {"forward", "most_positions"} & set(vars(part))]
    hooks = sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in unet.modules())
    return shadows, hooks, pipeline.unet.device


def close(a, b):
    """Compare with a tolerance of 1e-5 of the largest value."""
    assert (a - b).abs().max() <= 1e-5 * b.abs().max()


class Short:
    """Make the networks raise `error` for too many rows or pictures.

    rows: most rows in a UNet call. whole: whether attention fits without being computed in parts. pictures: most
    pictures in a VAE call.
    """

    def __init__(self, monkeypatch, pipeline, *, rows=1000, whole=True, pictures=1000,
                 error=torch.OutOfMemoryError("no more")):
        self.rows, self.calls, self.pictures = [], 0, []
        forward, decode = pipeline.unet.forward, pipeline.vae.decode

        def unet(x, *args, **kwargs):
            self.calls += 1
            in_parts = all("forward" in vars(part)
                           for name, part in pipeline.unet.named_modules() if name.endswith("attn1"))
            if len(x) > rows or (not whole and not in_parts):
                raise error
            self.rows.append(len(x))
            return forward(x, *args, **kwargs)

        def picture(x, *args, **kwargs):
            if len(x) > pictures:
                raise error
            self.pictures.append(len(x))
            return decode(x, *args, **kwargs)

        monkeypatch.setattr(pipeline.unet, "forward", unet)
        monkeypatch.setattr(pipeline.vae, "decode", picture)


@pytest.mark.parametrize("limits, rungs, rows, schedule", [
    slow(dict(rows=16), [TWO], {8, 16}, "static standard"),
    (dict(rows=8), [TWO, WINDOWS], {8}, "static standard"),
    slow(dict(rows=4), [TWO, WINDOWS, APART], {4}, "static standard"),
    (dict(whole=False), [TWO, WINDOWS, APART, PARTS], {4}, "static standard"),
    (dict(rows=9), [TWO, WINDOWS, APART], {9}, "views"),
], ids=["two", "one", "apart", "parts", "views"])  # fmt: skip
def test_each_fallback_gives_the_same_clip(pipeline, monkeypatch, limits, rungs, rows, schedule):
    asked, told = settings(windows_per_call=4, context_schedule=schedule), []
    expected = pipeline.sample(settings(windows_per_call=1, context_schedule=schedule))
    with monkeypatch.context() as patch:
        before = state_of(pipeline)
        short = Short(patch, pipeline, **limits)
        found = pipeline.sample(asked, told.append)
        left = state_of(pipeline)
    assert [event.text.removeprefix("memory was short: ") for event in told if event.kind == "note"] == rungs
    assert set(short.rows) == rows
    assert left[1:] == before[1:] and left[0] == [""], "only the test's own patch is left"
    close(found, expected)


@pytest.mark.slow
def test_fallbacks_in_fp32_give_the_same_clip(single, monkeypatch):
    asked = dict(size="128x128", frames=7)
    expected = single.sample(settings(**asked, windows_per_call=1))
    close(single.sample(settings(**asked, windows_per_call=2)), expected)
    short = Short(monkeypatch, single, whole=False)
    close(single.sample(settings(**asked)), expected)
    assert set(short.rows) == {4}


@pytest.mark.slow
def test_fallbacks_last_until_the_end_of_the_run(pipeline, monkeypatch):
    short = Short(monkeypatch, pipeline, rows=4)
    for _ in range(2):
        short.calls, short.rows = 0, []
        pipeline.sample(settings(steps=3))
        assert short.calls - len(short.rows) == 1, "one call fails"


@pytest.mark.parametrize("error", [slow(MemoryError()), RuntimeError(
    "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: "
    "can't allocate memory: you tried to allocate 9")])
def test_errors_about_the_hosts_memory_are_recognised(pipeline, monkeypatch, error):
    expected = pipeline.sample(settings())
    Short(monkeypatch, pipeline, rows=4, error=error)
    close(pipeline.sample(settings()), expected)


def test_error_without_fallbacks_left_is_raised(pipeline, monkeypatch):
    before = state_of(pipeline)
    with monkeypatch.context() as patch:
        Short(patch, pipeline, rows=3, error=MemoryError("of the host"))
        with pytest.raises(torch.OutOfMemoryError, match="of the host"):
            pipeline.sample(settings())
    assert state_of(pipeline) == before
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="mat1 and mat2"):
        Short(patch, pipeline, rows=3, error=RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
        pipeline.sample(settings())


def test_fallbacks_of_stills_without_a_motion_module(pipeline, monkeypatch):
    asked = settings(enable=False)
    expected = pipeline.sample(asked)
    Short(monkeypatch, pipeline, whole=False)
    close(pipeline.sample(asked), expected)


@pytest.mark.parametrize("loop, order", [("none", list(range(11))), ("ping-pong", [*range(11), *range(9, 0, -1)])])
def test_pictures_are_decoded_together_if_they_fit(pipeline, monkeypatch, loop, order):
    asked = settings(frames=11, closed_loop=loop)
    latents = torch.randn(11, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    alone = [next(pipeline.decode(latents[i : i + 1])) for i in order]
    monkeypatch.setattr(memory, "fits", lambda device, work, most: (work(), 8))
    short, told = Short(monkeypatch, pipeline, pictures=4), []
    together = list(pipeline.decode(latents, pipeline.plan(asked).playback, told.append))
    assert short.pictures[:3] == [1, 4, 4] and sum(short.pictures) == 11
    assert np.abs(np.stack(together).astype(int) - np.stack(alone)).max() <= 1
    assert [event.text[18:] for event in told if event.kind == "note"] == ["pictures are decoded 4 at once"]
    assert [event.frames[0] for event in told if event.kind == "frame"] == order


@hypothesis(deadline=None, max_examples=12, suppress_health_check=list(HealthCheck))
@given(frames=st.integers(2, 12), context=st.integers(2, 6), overlap=st.integers(-1, 3), together=st.integers(2, 5),
       loop=st.sampled_from(CLOSED_LOOPS), schedule=st.sampled_from(list(SCHEDULES)), stride=st.integers(1, 3),
       cfg=st.sampled_from([1.0, 5.0]), effect=st.sampled_from(["1", "0: 0.5, 3: 1.5"]))
@pytest.mark.slow
def test_several_windows_per_call_give_the_same_clip(pipeline, frames, context, overlap, together, loop, schedule,
                                                     stride, cfg, effect):
    asked = dict(frames=frames, context_length=context, overlap=min(overlap, context - 1), closed_loop=loop,
                 context_schedule=schedule, stride=stride, cfg=cfg, motion_effect=effect, prompt="0: x\n1: y")
    one, several = (pipeline.sample(settings(**asked, windows_per_call=n)) for n in (1, together))
    close(several, one)


@pytest.mark.slow
def test_files_and_report_name_the_fallbacks(tiny, tmp_path, monkeypatch, capsys):
    from animatediff.faces.cli import main as cli
    from animatediff.media import metadata

    load = Pipeline.load

    def short(*args, **kwargs):
        pipeline = load(*args, **kwargs)
        Short(monkeypatch, pipeline, rows=4)
        return pipeline

    monkeypatch.setattr(Pipeline, "load", short)
    code = cli.main(["render", "a red circle", "--frames", "9", "--context", "4", "--steps", "1", "--size", "64x64",
                     "--seed", "5", "--device", "cpu", "--checkpoint", str(tiny.checkpoint), "--motion-module",
                     str(tiny.module), "--format", "GIF,PNG,MP4", "--out", str(tmp_path) + "/", "--json"])
    out, err = capsys.readouterr()
    report, expected = json.loads(out), f"memory was short: {APART}"
    assert code == 0 and expected in report["notes"] and f"Note: {expected}" in err
    for path in report["written"]:
        assert json.loads(metadata.read(path))["memory"] == [expected], path
