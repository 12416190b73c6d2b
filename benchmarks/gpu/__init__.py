"""All measurements on a GPU in one command: `python -m benchmarks gpu [--minutes 8] [--json FILE] [--quick]`.

Needs torch, diffusers and this checkout, but no network. Parts run in order of importance. Parts that would exceed the
time limit are skipped, and a line names them. `--quick` runs the same code with toy sizes, also on a CPU.
"""
from __future__ import annotations

import importlib
import time
import traceback
from collections.abc import Callable

import torch

from benchmarks.gpu.plan import FULL, QUICK, Plan

# Part -> (description, approximate seconds on an H100).
PARTS = {
    "environment": ("the device, its clocks, and its speed in copies and products", 5),
    "tests": ("the tests of the motion module that need this device", 80),
    "parity": ("the motion module's largest difference from float64, with kernels and without", 20),
    "places": ("the motion module, site by site, against diffusers' and the limits by bytes and FLOPs", 25),
    "step": ("one UNet step with guidance against the plain UNet and diffusers' UNetMotionModel", 60),
    "shortage": ("a clip that runs out of memory: its fallbacks, and whether the result is equal", 15),
    "calls": ("windows in a call and pictures in a decode", 20),
    "compiled": ("the motion module compiled by torch, ours and diffusers'", 80),
    "sdxl": ("one UNet step of SDXL with a module for it", 30),
    "moving": ("moving a motion module to the device and back", 5),
    "fp8": ("products in fp8 against fp16: time and error", 5),
    "writers": ("frames per second of each writer against imageio", 40),
    "profile": ("a step's time by kernel", 15),
}


def run(quick: bool = False, minutes: float = 8, only: tuple[str, ...] = (),
        done: Callable[[str, list[dict]], None] = lambda part, rows: None) -> dict[str, list[dict]]:
    """Run the parts and return the rows of each.

    quick: use toy sizes. minutes: time limit. only: parts to run; all if empty.
    done: called as done(part, rows) after each part.
    """
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
        print(f"\nSkipped for lack of time: {', '.join(left_out)}. Increase --minutes.", flush=True)
    return found


def _rows(part: str, plan: Plan) -> list[dict]:
    """Return the rows of a part. On a GPU, a failure becomes a row, so that the other parts still run."""
    try:
        return importlib.import_module(f"benchmarks.gpu.{part}").run(plan)
    except Exception as error:
        if plan.device == "cpu":
            raise
        traceback.print_exc()
        return [{"failed": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"}]
