"""The command for a GPU, with toy sizes on this CPU: every part runs, in time, and one that fails stops no other."""
from __future__ import annotations

import json
import sys
import types

import pytest
from slow_cases import slow

pytest.importorskip("diffusers")

from benchmarks import gpu
from benchmarks.gpu import places
from benchmarks.gpu.plan import FULL

SLOW = ("calls", "compiled", "profile", "step")


@pytest.mark.parametrize("part", [slow(part) if part in SLOW else part for part in gpu.PARTS])
def test_each_part_runs(part):
    told = []
    found = gpu.run(quick=True, only=(part,), done=lambda name, rows: told.append((name, rows)))
    assert told == list(found.items()) and list(found) == [part]
    rows = found[part]
    assert rows and json.dumps(rows, allow_nan=False)
    if part not in ("profile", "calls"):
        assert all(row.keys() == rows[0].keys() for row in rows)
    for row in rows:
        assert all(value > 0 for name, value in row.items() if name == "ms" or name.endswith(" ms")), row


def test_the_same_numbers_whoever_computes_them():
    step, = gpu.run(quick=True, only=("step",))["step"]
    assert float(step["largest difference"]) < 1e-4 < 0.1 < float(step["largest value"])
    for row in gpu.run(quick=True, only=("parity",))["parity"]:
        assert float(row["error"]) < {"fp32": 1e-5, "fp16": 5e-3, "bf16": 4e-2}[row["dtype"]], row


def test_the_floor_is_what_bytes_or_flops_need():
    """By hand: 2·16·64² tokens of 320 channels at 4 TB/s and 800 TFLOP/s; then so few that the weights count."""
    tokens = 2 * 16 * 64**2
    flops = 44 * 320**2 * tokens
    assert places.floor(320, tokens, (4.0, 800.0)) == pytest.approx(1e3 * flops / 800e12)
    assert places.floor(1280, 16, (4.0, 800.0)) == pytest.approx(1e3 * 2 * (2 * 16 * 1280 + 22 * 1280**2) / 4e12)
    assert [often for *_, often in FULL.places()] == [5, 5, 5, 6]


def stand_in(monkeypatch, part, run):
    module = types.ModuleType(f"benchmarks.gpu.{part}")
    module.run = run
    monkeypatch.setitem(sys.modules, module.__name__, module)


def test_what_does_not_fit_is_left_out_and_said(monkeypatch, capsys):
    for part in gpu.PARTS:
        stand_in(monkeypatch, part, lambda plan: [{"ms": 1.0}])
    found = gpu.run(minutes=30 / 60)
    left_out = [part for part, (_, seconds) in gpu.PARTS.items() if seconds >= 30]
    assert list(found) == [part for part in gpu.PARTS if part not in left_out] and left_out
    assert f"Skipped for lack of time: {', '.join(left_out)}." in capsys.readouterr().out


def test_a_part_that_fails_on_a_device_is_a_row(monkeypatch):
    def run(plan):
        raise RuntimeError("the kernel is gone\nand more")

    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.empty_cache", lambda: None)
    stand_in(monkeypatch, "moving", run)
    stand_in(monkeypatch, "fp8", lambda plan: [{"ms": 1.0}])
    found = gpu.run(only=("moving", "fp8"))
    assert found == {"moving": [{"failed": "RuntimeError: the kernel is gone"}], "fp8": [{"ms": 1.0}]}
