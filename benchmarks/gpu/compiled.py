"""The motion module with torch.compile: ours (torch's operators) and diffusers', against ours without it."""
from __future__ import annotations

import time
from unittest.mock import patch

import torch

from animatediff.motion import layers
from benchmarks.gpu.plan import DTYPES, Plan
from benchmarks.motion_part import pair
from benchmarks.timing import alternate


@torch.no_grad()
def run(plan: Plan) -> list[dict]:
    dtype, frames = plan.dtypes[0], plan.frames[0]
    places = plan.places()[:3] if plan.device == "cuda" else plan.places()[:1]  # the fourth compiles like the third
    return [_row(plan, place, dtype, frames) for place in places]


def _row(plan: Plan, place: tuple[int, int, int], dtype: str, frames: int) -> dict:
    channels, side, count = place
    ours, theirs = (each.to(plan.device, DTYPES[dtype]) for each in pair(channels))
    x = torch.randn(2 * frames, channels, side, side, device=plan.device).to(DTYPES[dtype])
    torch._dynamo.reset()
    backend = "inductor" if x.is_cuda else "eager"
    calls = {"ours compiled": torch.compile(ours.plainly, backend=backend),
             "diffusers compiled": torch.compile(theirs, backend=backend)}
    arguments = {"ours compiled": ((x, frames), {}), "diffusers compiled": ((x,), {"num_frames": frames})}
    took = {}
    with patch.object(layers, "side_by_side", torch.cat):  # the compiler cannot trace side_by_side
        for name, call in calls.items():
            began = time.perf_counter()
            call(*arguments[name][0], **arguments[name][1])
            took[f"{name}: s to compile"] = time.perf_counter() - began
        contenders = {name: lambda name=name: calls[name](*arguments[name][0], **arguments[name][1]) for name in calls}
        found = alternate({"ours": lambda: ours(x, frames)} | contenders, rounds=plan.rounds, seconds_of=plan.timer)
    times = {f"{name} ms": 1e3 * timing.median for name, timing in found.items()}
    return {"frames": frames, "dtype": dtype, "channels": channels, "positions": f"{side}×{side}",
            "in the UNet": count, **times, **took,
            "diffusers compiled/ours": times["diffusers compiled ms"] / times["ours ms"]}
