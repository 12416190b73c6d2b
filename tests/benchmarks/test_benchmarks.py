"""Each measurement runs at toy size and says what is true; the tables find their places."""
from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.markdown import fill, tables
from benchmarks.scene import Scene
from benchmarks.timing import alternate

ROOT = Path(__file__).parents[2]


def check(rows: list[dict]) -> None:
    assert rows and all(row.keys() == rows[0].keys() for row in rows)
    json.dumps(rows, allow_nan=False)


def test_a_small_measurement():
    """The others are slow: most of a measurement is the network that it measures."""
    pytest.importorskip("diffusers")
    from benchmarks import unet_step

    [row] = unet_step.measure(dataclasses.replace(unet_step.QUICK, pixels=(64,), frames=3, dtypes=("fp32",)))
    check([row])
    assert float(row["largest difference"]) < 1e-4 and float(row["change by motion"]) > 1


@pytest.mark.slow
def test_unet_step(capsys):
    pytest.importorskip("diffusers")
    from benchmarks import unet_step

    rows = unet_step.run(quick=True)
    check(rows)
    assert [(row["pixels"], row["dtype"]) for row in rows] == [(64, "fp32"), (128, "fp32"), (64, "bf16"), (128, "bf16")]
    for row in rows:
        # Both run the same weights, in a model that the motion module changes much.
        assert float(row["largest difference"]) < (1e-4 if row["dtype"] == "fp32" else 0.3)
        assert float(row["change by motion"]) > 1
        assert row["diffusers/ours"] == pytest.approx(row["diffusers s"] / row["ours s"])
    assert "16 frames, 128 pixels bf16, round 1" in capsys.readouterr().out


@pytest.mark.slow
def test_motion_part():
    pytest.importorskip("diffusers")
    from benchmarks import motion_part

    rows = motion_part.run(quick=True)
    check(rows)
    assert [row["channels"] for row in rows if row["dtype"] == "fp32"] == ["320", "640", "1280", "1280", "all places"]
    for dtype, tolerance in (("fp32", 1e-5), ("bf16", 0.1)):
        *places, total = (row for row in rows if row["dtype"] == dtype)
        assert all(float(row["largest difference"]) < tolerance for row in places), places
        assert total["ours s"] == pytest.approx(sum(row["ours s"] * row["in the UNet"] for row in places))


@pytest.mark.slow
def test_motion_traffic():
    """What the motion module asks of a GPU is less than what diffusers' asks: operators, bytes, memory."""
    pytest.importorskip("diffusers")
    from benchmarks import motion_traffic

    rows = motion_traffic.run(quick=True)
    check(rows)
    assert [row["frames"] for row in rows[::5]] == [16, 32] and len(rows) == 10
    for row in rows:
        for what, most in (("operators", 1.0), ("GB", 1.0), ("peak MiB", 0.6)):
            assert 0 < row[f"ours {what}"] <= most * row[f"diffusers {what}"]


def test_what_is_counted():
    """By hand: a product with a bias, its view, and an addition in place, of fp16 [4 8] and [8 16]."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    from benchmarks.motion_traffic import Counting

    with FakeTensorMode():
        x, weight, bias = (torch.empty(shape, dtype=torch.float16) for shape in ((4, 8), (16, 8), (16,)))
        with torch.no_grad(), Counting() as found:
            y = torch.nn.functional.linear(x, weight, bias).view(8, 8)
            y += 1
            z = y * y
            del y
            z = z * 2
    read_and_written = (4 * 8 + 16 * 8 + 16 + 64) + 2 * 64 + 3 * 64 + 2 * 64
    assert (found.counts.operators, found.counts.traffic, found.counts.peak) == (4, 2 * read_and_written, 2 * 128)


def test_the_rivals_are_those_that_are_tested():
    """The versions that the benchmarks' extra pins are those of the tested stack."""
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extra = project["optional-dependencies"]["benchmarks"]
    pinned = {requirement.lower() for requirement in extra if "==" in requirement}
    assert len(pinned) == 3 and pinned <= set((ROOT / "constraints.txt").read_text("utf-8").lower().splitlines())


@pytest.mark.slow
def test_motion_profile():
    pytest.importorskip("diffusers")
    from benchmarks import motion_profile

    rows = motion_profile.run(quick=True)
    assert [row["implementation"] for row in rows] == ["diffusers", "ours, plain layers", "ours"]
    for row in rows:
        kinds = [row[f"{kind} s"] for kind in (*motion_profile.KINDS, "the rest")]
        assert sum(kinds) == pytest.approx(row["all s"]) and row["products s"] > 0 and row["attention s"] > 0


@pytest.mark.slow
def test_start_up(monkeypatch):
    pytest.importorskip("diffusers")
    from benchmarks import start_up

    monkeypatch.delenv("WEBUI_DIR", raising=False)
    rows = start_up.run(quick=True)
    check(rows)
    for row in rows:
        tensors = 2 if row["what"].endswith("fp32") else 1
        assert 0.5 < row["memory/file"] < 1 + 2 * tensors and row["seconds"] > 0 and row["file MiB"] > 1, row


@pytest.mark.slow
def test_writers():
    for name in ("imageio", "imageio_ffmpeg", "av"):
        pytest.importorskip(name)
    from benchmarks import writers

    rows = writers.run(quick=True)
    check(rows)
    assert [row["format"] for row in rows] == [contest.name for contest in writers.CONTESTS]
    for row in rows:
        for who in ("ours", "imageio"):
            quality = row[f"{who} PSNR dB"]
            assert quality == "lossless" if row["format"] in ("APNG", "PNG") else 20 < quality < 60, row
            assert row[f"{who} KB"] > 0.5 and row[f"{who} frames/s"] > 0, row


@pytest.mark.slow
def test_loops():
    pytest.importorskip("diffusers")
    from benchmarks import loops

    rows = loops.run(quick=True)
    check(rows)
    scores = {row["way"]: row["score"] for row in rows}
    assert scores["seamless"] < 1.5 < scores["open"] and all(row["median step"] > 0.3 for row in rows)


def test_stillness_of_a_shape_that_moves_as_told():
    from benchmarks.noise import stillness

    def frame(x: int, ground: int) -> np.ndarray:
        picture = np.full((64, 64, 3), ground, np.uint8)
        picture[20:40, x:x + 20] = (200, 30, 30)
        return picture

    still = stillness([frame(10, 240)] * 4)
    assert still == {"change": 0, "jump": 0, "wandering": 0, "background": 0}
    moved = stillness([frame(10, 240), frame(10, 240), frame(16, 240), frame(16, 230)])
    assert moved["jump"] == pytest.approx(6, abs=0.1) and moved["wandering"] == pytest.approx(3, abs=0.1)
    assert moved["background"] == pytest.approx(np.std([240, 240, 240, 230]) * 3**0.5)


@pytest.mark.slow
def test_memory():
    pytest.importorskip("diffusers")
    from benchmarks import memory

    case = memory.measure("render", "tiny", 8, 0)
    check([case, memory.measure("write", "PNG", 4, 48)])
    assert case["before MiB"] > 100 and case["peak MiB"] >= 0  # torch and diffusers are in that process


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux only")
def test_a_clip_of_1000_frames_takes_little_more_memory_than_one_of_32():
    from benchmarks import memory

    short, long = (memory.measure("long", "tiny", frames, 0) for frames in memory.LONG)
    assert long["before MiB"] + long["peak MiB"] < 1.2 * (short["before MiB"] + short["peak MiB"])
    assert long["peak MiB"] - short["peak MiB"] < 24, "some copies of the latents, 1 MiB each, and what lists need"


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux only")
def test_the_peak_is_what_the_work_took():
    """64 MB that the work allocates and frees, after 256 MB that it did not."""
    code = ("import numpy as np; from benchmarks import process; x = np.ones(2**28, np.uint8); del x\n"
            "base, reset = process.resident(), process.reset_peak(); y = np.ones(2**26, np.uint8); del y\n"
            "print((process.peak(reset) - base) / 2**20)")  # fmt: skip
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert 60 < float(found) < 80


def test_rounds_alternate_and_rotate():
    calls = []
    found = alternate({name: lambda name=name: calls.append(name) or name for name in "abc"}, rounds=3)
    assert "".join(calls) == "abc" + "abc" + "bca" + "cab"
    assert all(timing.first == name and len(timing.seconds) == 3 for name, timing in found.items())
    found = alternate({"a": lambda: 1}, rounds=1, warm_up={"a": lambda: 2})
    assert found["a"].first == 2
    calls.clear()
    alternate({name: lambda name=name: calls.append(name) for name in "ab"}, rounds=9, seconds=0)
    assert "".join(calls) == "abab"  # at least one round


def test_the_scene_moves_and_is_no_noise():
    scene = Scene(64)
    a, b = scene.frame(0), scene.frame(4)
    assert a.shape == (64, 64, 3) and a.dtype == np.uint8 and np.array_equal(a, Scene(64).frame(0))
    assert (a != b).any(-1).mean() > 0.5
    steps = np.abs(np.diff(a.astype(int), axis=1)).mean()
    assert 1 < steps < 15  # noise: 85


def test_tables_go_to_their_places():
    results = {"machine": {"torch": "2.13", "threads": 2, "environment": {"OMP_NUM_THREADS": "2"}, "quick": False},
               "writers": [{"format": "GIF", "frames": 64, "rate": 3.14159, "PSNR": "lossless"},
                           {"format": "PNG", "frames": 64, "rate": 1234.5, "PSNR": 40.0}]}  # fmt: skip
    found = tables(results)
    assert found["machine"] == "torch: 2.13; threads: 2; environment: OMP_NUM_THREADS=2."
    assert found["writers"].splitlines() == [
        "| format | frames | rate | PSNR |", "| :-- | --: | --: | --: |",
        "| GIF | 64 | 3.14 | lossless |", "| PNG | 64 | 1234 | 40 |",
    ]  # fmt: skip
    page = (ROOT / "docs" / "performance.md").read_text("utf-8")
    filled = fill(page, found)
    assert found["writers"] in filled and fill(filled, found) == filled  # again: replaced, not added
    assert re.findall(r"^#.*", filled, re.M) == re.findall(r"^#.*", page, re.M)
    with pytest.raises(ValueError, match="no place"):
        fill(page, {"unknown": "x"})


def test_the_page_has_a_place_for_each_measurement():
    page = (ROOT / "docs" / "performance.md").read_text("utf-8")
    for name in ("machine", "unet_step", "writers", "memory"):
        assert page.count(f"<!-- {name} -->\n") == page.count(f"<!-- end {name} -->\n") == 1


@pytest.mark.slow
def test_refine():
    """Also that windows win, which is what the page says of the demo model."""
    pytest.importorskip("diffusers")
    from benchmarks import refine

    rows = refine.run(quick=True)
    check(rows)
    error = {(row["refined"], row["noise"]): row["error"] for row in rows}
    assert error[refine.WINDOWS, "own"] < error[refine.PICTURES, "own"]
