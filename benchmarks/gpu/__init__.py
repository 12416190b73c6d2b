"""All that a GPU is measured for, in one command: `python -m benchmarks gpu [--minutes 8] [--json FILE] [--quick]`.

Needs torch, diffusers and this checkout, and no network. Parts run in the order of what they are worth; one that would
not be done in time is left out, and said to be. `--quick` runs the same code with toy sizes, on a CPU as well.
"""
from __future__ import annotations

import importlib
import time
import traceback
from collections.abc import Callable

import torch

from benchmarks.gpu.plan import FULL, QUICK, Plan

# Part -> what it shows, and about how many seconds it takes on an H100.
PARTS = {
    "environment": ("the device, its clocks, and the copies and products that it does", 5),
    "tests": ("the tests of the motion module that mean something on this device", 80),
    "parity": ("the motion module's largest difference from float64, with kernels and without", 20),
    "places": ("the motion part, place by place, against diffusers' and what bytes and FLOPs need", 25),
    "step": ("one UNet step with guidance against the plain UNet and diffusers' UNetMotionModel", 60),
    "shortage": ("a clip that runs out of memory: what is given up, and whether the result is equal", 15),
    "calls": ("windows in a call and pictures in a decode", 20),
    "compiled": ("the motion part compiled by torch, ours and diffusers'", 80),
    "sdxl": ("one UNet step of SDXL with a module for it", 30),
    "moving": ("a motion module on its way to the device and back", 5),
    "fp8": ("products in fp8 against fp16: time and error", 5),
    "writers": ("frames per second of each writer against imageio", 40),
    "profile": ("where a step's time goes, by kernel", 15),
}


def run(quick: bool = False, minutes: float = 8, only: tuple[str, ...] = (),
        done: Callable[[str, list[dict]], None] = lambda part, rows: None) -> dict[str, list[dict]]:
    """Rows of each part that was run. `done`: told of each as it ends. `only`: parts; all of them where it is empty."""
    plan, end = QUICK if quick else FULL, time.monotonic() + 60 * minutes
    if not torch.cuda.is_available():
        plan = plan.on("cpu")
    found: dict[str, list[dict]] = {}
    left_out = []
    for part in only or PARTS:
        text, seconds = PARTS[part]
        if not quick and time.monotonic() + seconds > end:
            left_out.append(part)
            continue
        print(f"\ngpu {part}: {text}", flush=True)
        began = time.monotonic()
        found[part] = _rows(part, plan)
        print(f"  {time.monotonic() - began:.0f} s", flush=True)
        done(part, found[part])
        if plan.device == "cuda":
            torch.cuda.empty_cache()
    if left_out:
        print(f"\nLeft out for want of time: {', '.join(left_out)}. Give more --minutes.", flush=True)
    return found


def _rows(part: str, plan: Plan) -> list[dict]:
    """Those of a part; where it fails, one that says so, since a device is not to be had again for the next part."""
    try:
        return importlib.import_module(f"benchmarks.gpu.{part}").run(plan)
    except Exception as error:
        if plan.device == "cpu":
            raise
        traceback.print_exc()
        return [{"failed": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"}]
