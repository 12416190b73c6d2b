"""Plans: files named in the settings are read once per run, long sources do not stay in memory, and errors are raised.
"""
from __future__ import annotations

import tracemalloc
from collections import Counter

import numpy as np
import pytest
from command_line import files, run  # noqa: F401
from PIL import Image
from slow_cases import slow

from animatediff import travel
from animatediff.clip import pictures
from animatediff.clip.inputs import Inputs
from animatediff.clip.preflight import Request, preflight
from animatediff.clip.sampled import Sampled
from animatediff.engine import samplers
from animatediff.engine.pipeline import Pipeline
from animatediff.errors import SettingsError
from animatediff.hosts.shared.host_samplers import Sampler, placed
from animatediff.media import masks
from animatediff.media.source import Source
from animatediff.media.stored import StoredPictures
from animatediff.settings import parse

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture
def counted(monkeypatch):
    """Count the reads of prompts, pictures, masks and motion LoRAs, and the schedulers built for samplers."""
    seen = Counter()

    def watch(place, name, what):
        plain = getattr(place, name)
        monkeypatch.setattr(place, name, lambda *a, **k: seen.update([what(*a)]) or plain(*a, **k))

    watch(travel.parse, "read", lambda prompt, *_: f"prompt {prompt}")
    watch(Source, "open", lambda path: f"picture {path}")
    watch(StoredPictures, "__init__", lambda *_: "source")
    watch(masks, "read", lambda path, *_: f"mask {path}")
    watch(samplers.Run, "__init__", lambda *_: "scheduler")
    return seen


@pytest.fixture
def pictured(tmp_path):
    colours = np.random.default_rng(0)
    for name in ("start.png", "end.png", "mask.png"):
        Image.fromarray(colours.integers(0, 256, (64, 64, 3), np.uint8)).save(tmp_path / name)
    return tmp_path


def test_in_one_render_everything_is_read_once(run, pictured, counted):
    code, _, err = run(
        "render", "0: a\n2: b", "--negative", "dull", "--frames", 4, "--context", 4, "--steps", 2, "--seed", 3,
        "--init", pictured / "start.png", "--last-frame", pictured / "end.png", "--motion-mask", pictured / "mask.png",
        "--freeinit", 2, "--device", "cpu", "--out", "a.gif")
    assert code == 0, err
    assert counted == {"prompt 0: a\n2: b": 1, "prompt dull": 1, "source": 1,
                       f"picture {pictured / 'end.png'}": 1, f"mask {pictured / 'mask.png'}": 1, "scheduler": 1}


def settings(**more):
    return parse({"enable": True, "prompt": "x", "frames": 3, "context_length": 4, "steps": 2, "seed": 3,
                  "size": "64x64", **more})


@pytest.mark.slow
def test_a_plan_is_of_one_run_and_can_be_run_again(tiny):
    pipeline = Pipeline.load(tiny.checkpoint, tiny.module, device="cpu", dtype="fp32")
    for sampler in ("UniPC", "Euler a", "Heun", "DPM++ SDE"):
        plan = pipeline.plan(settings(sampler=sampler, seed=-1))
        assert pipeline.plan(plan) is plan and plan.settings.seed >= 0
        assert pipeline.sample(plan).equal(pipeline.sample(plan)) and len(plan.passes) == 1
    assert pipeline.plan(plan.settings).settings == plan.settings


def test_a_long_video_does_not_lie_in_memory(tmp_path):
    """100 frames of 256x256 are 19 MB."""
    frames = [Image.new("RGB", (256, 256), (grey, grey, 0)) for grey in range(100)]
    frames[0].save(tmp_path / "long.gif", save_all=True, append_images=frames[1:], duration=50)
    asked = settings(init=str(tmp_path / "long.gif"), frames=0, size="256x256")
    Inputs.read(settings(init=str(tmp_path / "long.gif"), frames=2), None)  # so that imports are not measured
    tracemalloc.start()
    try:
        found = Inputs.read(asked, None)
        about = pictures.metadata(found.settings, found.pictures)
        assert tracemalloc.get_traced_memory()[1] < 6e6
    finally:
        tracemalloc.stop()
    assert found.settings.frames == 100 and about["init"]["pictures"] == 100
    reds = np.asarray(found.pictures.first)[:, 0, 0, 0].astype(int)
    assert np.abs(reds - np.arange(100)).max() <= 2


@pytest.mark.parametrize("more, count, said", [
    ({"last_frame": "x.png"}, 0, "needs a start picture"), ({"frames": 5}, 3, "but the request has 3 pictures"),
    ({"frames": 0, "last_frame": "x.png"}, 3, "from the request"),
])
def test_what_is_refused_of_pictures(more, count, said):
    with pytest.raises(SettingsError, match=said):
        pictures.check(settings(**more), count, "the request")


@pytest.mark.parametrize("sampler", [slow("Euler"), "Heun"])
@pytest.mark.parametrize("more", [
    {}, {"frames": 9, "closed_loop": "R-P"}, {"frames": 9, "stride": 2, "overlap": 1},
    {"seam_repair": 0.5, "frames": 6},
    {"freeinit_iterations": 3, "freeinit_fast": True, "frames": 7}, {"frames": 6, "context_schedule": "views"},
    {"closed_loop": "ping-pong", "seam_repair": 1, "frames": 5}, {"init": "start.png", "denoising_strength": 0.4},
], ids=str)
def test_a_plan_counts_calls_as_a_webuis_preflight_does(tiny, pictured, sampler, more):
    """Only samplers whose steps are placed alike in both."""
    if "init" in more:
        more = {**more, "init": str(pictured / more["init"])}
    asked = settings(sampler=sampler, steps=5, **more)
    plan = Pipeline.load(tiny.checkpoint, tiny.module, device="cpu", dtype="fp32").plan(asked)
    in_webui = Sampler(sampler, second_order=sampler == "Heun")
    told = preflight(Request(asked, Sampled.of(asked, asked.frame_count(), from_picture=bool(asked.init)),
                           lambda sampled: placed(in_webui, sampled)))
    assert plan.calls() == told.calls > 0
