"""The facts shown before a run, against the run: windows counted by running the loop, calls counted in the host."""
from __future__ import annotations

import json
import os
import subprocess
from dataclasses import fields
from fractions import Fraction
from pathlib import Path

import pytest
import torch

from animatediff import windows
from animatediff.clip.counts import COUNTED_AT_MOST
from animatediff.clip.preflight import LABELS, Checkpoint, Request, RunModels, preflight
from animatediff.clip.sampled import Sampled
from animatediff.curves import Curve
from animatediff.errors import AnimateDiffError, MediaError, ModelError
from animatediff.hosts.shared.host_samplers import Sampler, from_picture_steps, placed
from animatediff.layout import ClipLayout
from animatediff.media.sound import Sound
from animatediff.motion import FAMILIES, build, injected
from animatediff.motion.load import Description
from animatediff.motion.lora_files import LoraDescription
from animatediff.sampling import WindowedDenoiser
from animatediff.settings import Settings

HERE = Path(__file__).parent
WIDTHS = (320, 640, 1280, 1280)
V3 = Description("mm_v3.ckpt", FAMILIES["v3"], WIDTHS, 32)
SD15 = Checkpoint("photo", "SD1.5", WIDTHS)
TIMESTEPS = {"DDIM", "DDIM CFG++", "PLMS", "UniPC"}  # modules/sd_samplers_timesteps.py


def told(settings=None, **more):
    values = {"enable": True, "frames": 16, **(settings or {})}
    more = {"module": V3, "checkpoint": SD15, "sampler": Sampler(), **more}

    def part(kind):
        return kind(**{field.name: more.pop(field.name) for field in fields(kind) if field.name in more})

    first, hires_steps = more.pop("sampler"), more.pop("hires_steps", 0)
    samplers = {"first": first, "second": more.pop("hires_sampler", first)}
    second = Sampled(samplers["second"].name, steps=hires_steps, strength=1.0, exact=True) if hires_steps else None
    by_name = {sampler.name: sampler for sampler in samplers.values()}
    sampled = Sampled(first.name, steps=more.pop("steps", 20), second=second)
    return preflight(Request(Settings(**values), sampled, lambda each: placed(by_name[each.sampler], each),
                           models=part(RunModels), **more))


def fact(found, label):
    return dict(found.facts).get(label)


CASES = [
    {}, {"frames": 0, "context_length": 12}, {"frames": 8}, {"frames": 33}, {"frames": 40, "overlap": 0},
    {"frames": 40, "closed_loop": "R-P"}, {"frames": 40, "closed_loop": "A", "stride": 3},
    {"frames": 50, "stride": 4, "context_length": 8}, {"frames": 40, "context_schedule": "static standard"},
    {"frames": 40, "context_schedule": "batched", "overlap": 3},
    {"frames": 37, "context_schedule": "uniform standard", "stride": 2},
]  # fmt: skip


@pytest.mark.parametrize("values", CASES, ids=str)
@pytest.mark.parametrize("steps", [1, 7, 20])
def test_windows_and_calls_are_those_of_the_run(values, steps):
    settings = Settings(**values)
    frames = settings.frame_count()
    counts = []
    loop = WindowedDenoiser(lambda x, t, f: x, frames, settings.context_length, stride=settings.stride,
                            overlap=settings.overlap, closed_loop=settings.closed_loop,
                            schedule=settings.context_schedule, steps=steps, on_event=lambda e: counts.append(e.step))
    for step in range(steps):
        loop(torch.zeros(frames, 1, 1, 1), 0, step=step)
    per_step = [counts.count(step + 1) for step in range(steps)]
    found = told({**values, "frames": values.get("frames", 0)}, steps=steps)
    assert found.frames == frames and found.windows == (min(per_step), max(per_step)) and found.calls == len(counts)
    assert found.calls == windows.total(
        frames, settings.context_length, steps=steps, stride=settings.stride, overlap=settings.overlap,
        closed_loop=settings.closed_loop, schedule=settings.context_schedule)


def test_both_passes_and_every_clip_are_counted():
    a, b = (windows.total(40, 16, steps=n) for n in (20, 12))
    found = told({"frames": 40}, steps=20, hires_steps=12, clips=3)
    assert found.calls == 3 * (a + b) and fact(found, "UNet calls") == f"({a} + {b}) × 3 = {3 * (a + b)}"
    assert fact(told(steps=20, clips=2), "UNet calls") == "20 × 2 = 40"
    assert fact(told(steps=20, hires_steps=5), "UNet calls") == "20 + 5 = 25"
    assert fact(told(steps=20), "UNet calls") == "20"
    twice = told({"frames": 40}, steps=20, sampler=Sampler("Heun", second_order=True))
    assert twice.calls == sum(windows.count(40, 16, step=call // 2) for call in range(39))
    different = told(steps=20, hires_steps=5, sampler=Sampler(), hires_sampler=Sampler("DDIM", timesteps=True))
    assert different.calls == 20 + 3
    unknown = told(sampler=Sampler("DPM adaptive"))
    assert unknown.calls is None and fact(unknown, "UNet calls") == "?"


def test_too_many_windows_to_count_are_estimated():
    settings = {"frames": 100_000, "context_length": 16}
    assert windows.count(100_000, 16) * 16 > COUNTED_AT_MOST
    found = told(settings, steps=150)
    assert fact(found, "UNet calls").startswith("≈ ")
    assert found.calls == pytest.approx(sum(windows.count(100_000, 16, step=s) for s in range(4)) / 4 * 150, rel=0.01)


@pytest.mark.parametrize("values", [
    {}, {"stride": 99, "overlap": 15}, {"closed_loop": "A"}, {"closed_loop": "seamless"},
    {"context_schedule": "uniform standard"}, {"freeinit_iterations": 20}], ids=str)
def test_a_long_clips_windows_are_not_made(values, monkeypatch):
    monkeypatch.setattr(windows, "plan", lambda *_, **__: pytest.fail("this takes seconds"))
    found = told({"frames": 100_000, **values}, steps=1000, hires_steps=1000)
    assert found.calls > 10_000_000 and "≈ " in fact(found, "UNet calls") and "≈ " in fact(found, "Windows per step")


def test_what_is_said_twice_is_shown_once():
    wrong = ModelError("there is none")
    found = told(problem=wrong, prompts=("0: a\n0: b", "0: a\n9: b"), named_loras=lambda _: ([], [wrong]))
    assert len(found.problems) == 2 and "there is none" in found.problems[0] and "already" in found.problems[1]
    assert told(prompts=("0: a\n99: b", ""), named_loras=lambda _: ([], [wrong])).problems == ("there is none",)


@pytest.mark.parametrize("fps, loop, frames, seconds", [
    (8, "none", 16, 2), (24000 / 1001, "none", 24, Fraction(24 * 1001, 24000)),
    (23.976, "none", 24, Fraction(24 * 1001, 24000)), (8, "A", 16, Fraction(30, 8)), (8, "A", 17, Fraction(17, 8)),
    (0.5, "none", 1, 2), (10, "R+P", 5, Fraction(1, 2)),
])  # fmt: skip
def test_seconds_of_the_clip_that_plays(fps, loop, frames, seconds):
    found = told({"fps": fps, "closed_loop": loop, "frames": frames})
    assert found.seconds == pytest.approx(float(seconds), rel=1e-12)
    to_and_fro = loop == "A" and frames <= 16
    assert found.played == (2 * frames - 2 if to_and_fro else frames)
    assert fact(found, "Frames") == (f"{frames} → {2 * frames - 2}" if to_and_fro else str(frames))


def test_a_source_gives_the_number_of_frames():
    assert told({"frames": 0}, source_frames=40).frames == 40


def test_facts_and_their_order():
    lora = LoraDescription("zoom.ckpt", "motion LoRA", {}), Curve.read("0: 1, 8: -0.5")
    music = Sound(Path("music.mp3"), "mp3", 44100, 2)
    found = told({"frames": 40, "overlap": -1, "interp": "blend", "interp_x": 3}, prompts=("0: a\n8: b", ""),
                 loras=[lora], find_sound=lambda settings: music)
    assert [label for label, _ in found.facts] == [label for label in LABELS if label != "Source video"]
    assert fact(found, "Family") == "v3 (SD1.5)" and fact(found, "Noise schedule") == "linear 0.00085–0.012"
    assert fact(found, "Frame interpolation") == "40 → 120 frames, 24 fps, blend"
    assert fact(found, "Overlap") == "4" and fact(found, "Context length") == "16"
    assert fact(found, "Motion LoRA") == "zoom.ckpt × -0.5…1"
    assert fact(told(), "Overlap") is None  # a single window has no overlap
    assert found.lines[0] == "Frames: 40" and not found.problems and not found.notices
    assert json.loads(json.dumps(found.to_dict()))["unet_calls"] == found.calls


@pytest.mark.parametrize("values, terms", [({}, "20 + 20 + 20 = 60"), ({"freeinit_fast": True}, "6 + 13 + 20 = 39")])
def test_free_inits_iterations_are_counted_in_the_first_pass(values, terms):
    found = told({"freeinit_iterations": 3, **values}, steps=20)
    assert fact(found, "UNet calls") == terms and found.calls == int(terms.split()[-1])
    twice = told({"freeinit_iterations": 3, **values}, steps=20, hires_steps=7, clips=2)
    assert twice.calls == 2 * (found.calls + 7)


# Errors: the same words as in the run.


def refusal(run, *arguments):
    with pytest.raises(AnimateDiffError) as caught:
        run(*arguments)
    return str(caught.value)


def tiny_unet(**more):
    diffusers = pytest.importorskip("diffusers")
    blocks = more.pop("blocks", 4)
    down = ["CrossAttnDownBlock2D"] * (blocks - 1) + ["DownBlock2D"]
    return diffusers.UNet2DConditionModel(
        block_out_channels=(32,) * blocks, down_block_types=down, attention_head_dim=4, sample_size=8,
        up_block_types=[name.replace("Down", "Up") for name in reversed(down)], **{"cross_attention_dim": 16, **more})


@pytest.mark.parametrize("unet, family, widths", [
    ({}, "v3", (64,) * 4), ({}, "HotShot-XL", (32,) * 3), ({"cross_attention_dim": 1024}, "v3", (32,) * 4),
])  # fmt: skip
def test_a_module_that_does_not_fit(unet, family, widths):
    from animatediff.unet.places import find_places

    unet, module = tiny_unet(**unet), build(widths, family, name="some.ckpt")
    places = find_places(unet)
    about = Description("some.ckpt", module.family, widths, module.max_frames)
    context = module.max_frames
    found = told({"context_length": context}, module=about, checkpoint=Checkpoint("x", places.base, places.widths))
    assert list(found.problems) == [refusal(injected(unet, module, ClipLayout.contiguous).__enter__)]
    fits = told({"context_length": context}, module=about, checkpoint=Checkpoint("x", module.family.base, widths))
    assert not fits.problems


def test_a_window_longer_than_the_module_knows():
    module = build((32,) * 4, "v1", name="some.ckpt")
    about = Description("some.ckpt", module.family, (32,) * 4, module.max_frames)
    image = Checkpoint("x", "SD1.5", (32,) * 4)
    found = told({"frames": 25, "context_length": 32}, module=about, checkpoint=image)
    assert list(found.problems) == [refusal(module.check_frames, 25)]
    assert not told({"frames": 24, "context_length": 32}, module=about, checkpoint=image).problems


def test_a_format_that_cannot_be_written():
    def probe(settings):
        if "MP4" in settings.formats:
            raise MediaError("no encoder", where="formats", remedy="Install one")

    assert told({"formats": "MP4"}, probe=probe).problems == ("formats: no encoder. Install one",)
    assert not told({"formats": "GIF"}, probe=probe).problems


def test_other_problems():
    assert told(module=None, problem=ModelError("there is none")).problems == ("there is none",)
    found = told(checkpoint=Checkpoint("flux", problem="this kind of checkpoint has no UNet"))
    assert found.problems == ("this kind of checkpoint has no UNet",)


@pytest.mark.parametrize("values, more, words", [
    ({"frames": 8}, {}, "noisier motion"),
    ({}, {"sampler": Sampler("LCM")}, "distilled"),
    ({"frames": 40, "closed_loop": "A", "context_schedule": "batched"}, {}, "does not close loops"),
    ({"closed_loop": "R+P"}, {}, "cannot close"),
    ({"closed_loop": "seamless", "context_schedule": "batched"}, {}, "does not close loops"),
    ({"frames": 65, "context_schedule": "views"}, {}, "all 65 frames in one UNet call"),
    ({"closed_loop": "ping-pong", "seam_repair": 0.5}, {}, "no seam"),
    ({"fps": 60}, {}, "50 frames per second"),
    ({}, {"checkpoint": None}, "no checkpoint is loaded"),
    ({"freeinit_iterations": 2, "freeinit_d_s": 0}, {}, "FreeInit keeps nothing"),
    ({"noise": "FreeNoise"}, {}, "nothing to shuffle"),
])
def test_notices(values, more, words):
    found = told(values, **more)
    assert len(found.notices) == 1 and words in found.notices[0] and not found.problems


def test_no_notice_without_cause():
    assert not told({"closed_loop": "A"}).notices and not told({"fps": 50}).notices
    assert not told({"fps": 60, "formats": "MP4"}).notices
    assert not told({"frames": 40, "closed_loop": "R-P"}).notices
    lcm = Description("lcm", FAMILIES["AnimateLCM"], WIDTHS, 64)
    assert not told(module=lcm, sampler=Sampler("LCM")).notices


# The host's samplers, recorded from the real host.


def measured(rows):
    for row in rows:
        if row["calls"] is not None and row["sampler"] != "DPM adaptive":
            yield row, [step for first, last, n in row["calls"] for step in range(first, last + 1) for _ in range(n)]


def test_calls_of_the_hosts_samplers():
    rows = json.loads((HERE / "sampler_calls.json").read_text("utf-8"))
    compared = 0
    for row, calls in measured(rows):
        sampler = Sampler(row["sampler"], row["second_order"], row["sampler"] in TIMESTEPS)
        from_picture = row["strength"] is not None
        steps = from_picture_steps(row["steps"], row["strength"]) if from_picture else row["steps"]
        assert sampler.calls(steps, from_picture=from_picture) == calls, row
        compared += 1
    assert compared > 200


def test_the_recording_is_of_this_host():
    folder = os.environ.get("WEBUI_DIR")
    if not folder:
        pytest.skip("needs WEBUI_DIR")
    places = (Path(folder) / "venv" / place for place in ("bin/python", "Scripts/python.exe"))
    python = os.environ.get("WEBUI_PYTHON") or next(path for path in places if path.exists())
    run = subprocess.run([python, HERE / "sampler_calls.py"], cwd=folder, capture_output=True, text=True, timeout=900)
    printed = next((line for line in run.stdout.splitlines() if line.startswith("[{")), None)
    assert printed, run.stderr[-2000:]
    assert json.loads(printed) == json.loads((HERE / "sampler_calls.json").read_text("utf-8"))


def test_steps_from_a_picture():
    """setup_img2img_steps in modules/sd_samplers_common.py: t_enc + 1."""
    assert from_picture_steps(20, 0.75) == 16 and from_picture_steps(20, 1.0) == 20 and from_picture_steps(20, 0) == 1
    assert from_picture_steps(20, 0.3, exact=True) == 20
