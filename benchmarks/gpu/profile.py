"""A step's time by kernel, from torch's profiler: the plain UNet, ours and diffusers'."""
from __future__ import annotations

import torch
from torch.profiler import ProfilerActivity, profile

from animatediff.layout import ClipLayout
from animatediff.motion import injected
from benchmarks.gpu.plan import DTYPES, Plan
from benchmarks.gpu.step import networks
from benchmarks.unet_step import TIMESTEP, TOKENS, same_in_diffusers

MOST = 25  # kernels listed per step


@torch.no_grad()
def run(plan: Plan) -> list[dict]:
    dtype, frames, side = plan.dtypes[0], plan.frames[0], plan.pixels // 8
    unet, module = networks(plan, dtype)
    other = same_in_diffusers(unet, module)
    x = torch.randn(2 * frames, 4, side, side, device=plan.device).to(DTYPES[dtype])
    text = torch.randn(2 * frames, TOKENS, plan.text, device=plan.device).to(DTYPES[dtype])

    def ours() -> torch.Tensor:
        with injected(unet, module, lambda rows: ClipLayout.contiguous(frames, rows // frames)):
            return unet(x, TIMESTEP, text).sample

    def diffusers() -> torch.Tensor:
        return other(x.unflatten(0, (2, frames)).transpose(1, 2), TIMESTEP, text).sample

    calls = {"plain": lambda: unet(x, TIMESTEP, text).sample, "ours": ours, "diffusers": diffusers}
    return [row for name, call in calls.items() for row in _kernels(name, call, plan.device)]


def _kernels(name: str, call, device: str) -> list[dict]:
    call()
    with profile(activities=[ProfilerActivity.CUDA if device == "cuda" else ProfilerActivity.CPU]) as seen:
        call()
        if device == "cuda":
            torch.cuda.synchronize()
    found = [(event.self_device_time_total if device == "cuda" else event.self_cpu_time_total, event.count, event.key)
             for event in seen.key_averages()]
    found = sorted((each for each in found if each[0]), reverse=True)
    whole = sum(each[0] for each in found)
    shown = [{"step": name, "kernel": key[:80], "times": count, "ms": time / 1e3, "of the step": time / whole}
             for time, count, key in found[:MOST]]
    return [*shown, {"step": name, "kernel": "all", "times": sum(count for _, count, _ in found), "ms": whole / 1e3,
                     "of the step": 1.0}]
