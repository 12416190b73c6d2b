"""Time of moving a motion module to the device and back, from ordinary and from page-locked memory."""
from __future__ import annotations

import time
from collections.abc import Callable

import torch

from animatediff.motion import FAMILIES, build
from benchmarks.gpu.plan import DTYPES, Plan
from benchmarks.unet_step import filled


@torch.no_grad()
def run(plan: Plan) -> list[dict]:
    with torch.device("meta"):
        module = build(plan.widths, FAMILIES["AnimateLCM"])  # its positional encoding is in no file
    module = filled(module, dtype=DTYPES[plan.dtypes[0]])
    weights = [weight.data for weight in module.parameters()]
    size, rows = sum(weight.nbytes for weight in weights), []

    def case(what: str, work: Callable[[], object]) -> object:
        began = time.perf_counter()
        result = work()
        if plan.device == "cuda":
            torch.cuda.synchronize()
        took = time.perf_counter() - began
        rows.append({"what": what, "MiB": size / 2**20, "ms": 1e3 * took, "GB/s": size / took / 1e9})
        return result

    there = case("to the device, the first time", lambda: [weight.to(plan.device) for weight in weights])
    there = case("to the device", lambda: [weight.to(plan.device) for weight in weights])
    case("back to ordinary memory", lambda: [weight.cpu() for weight in there])
    if plan.device == "cuda":
        locked = case("locking its pages", lambda: [weight.pin_memory() for weight in weights])
        case("to the device from locked pages",
             lambda: [weight.to(plan.device, non_blocking=True) for weight in locked])
    return rows
