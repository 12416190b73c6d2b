"""One UNet step of SD1.5 with a v2 module, guidance and random weights: the time that motion adds to the plain UNet.

*channels last* is ours with the UNet's weights in that memory format; *graph* is ours as one CUDA graph. *plain graph*
and *plain channels last* are the same for the UNet alone. Peaks are the memory of a call above the weights.
"""
from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from animatediff.layout import ClipLayout
from animatediff.motion import MotionModule, injected
from animatediff.unet.prompts_once import prompts_once
from benchmarks import unet_step
from benchmarks.gpu.places import peaks
from benchmarks.gpu.plan import DTYPES, Plan, without_kernels
from benchmarks.timing import alternate
from benchmarks.unet_step import TIMESTEP, TOKENS, norm_over_frames, same_in_diffusers


def networks(plan: Plan, dtype: str) -> tuple[nn.Module, MotionModule]:
    """Return a UNet and a motion module with random weights, on the device."""
    unet, module = unet_step.networks(plan, plan.device, DTYPES[dtype])
    return unet, module.to(plan.device, DTYPES[dtype])  # positional encodings are buffers, not weights


@torch.no_grad()
def run(plan: Plan) -> list[dict]:
    rows = []
    for dtype in plan.dtypes:
        unet, module = networks(plan, dtype)
        other = same_in_diffusers(unet, module)
        rows += [_row(plan, unet, module, other, dtype, frames) for frames in plan.frames]
        del unet, module, other
    return rows


def _row(plan: Plan, unet: nn.Module, module: MotionModule, other: nn.Module, dtype: str, frames: int) -> dict:
    side = plan.pixels // 8
    x = torch.randn(2 * frames, 4, side, side, device=plan.device).to(DTYPES[dtype])
    text = torch.randn(2, TOKENS, plan.text, device=plan.device).to(DTYPES[dtype]).repeat_interleave(frames, 0)
    video = x.unflatten(0, (2, frames)).transpose(1, 2)
    timestep = torch.tensor(TIMESTEP, device=plan.device)

    def plain() -> Tensor:
        return unet(x, timestep, text).sample

    def with_motion() -> Tensor:
        with injected(unet, module, lambda rows: ClipLayout.contiguous(frames, rows // frames)):
            return plain()

    def ours() -> Tensor:
        with prompts_once(unet):
            return with_motion()

    def by_torch() -> Tensor:
        with without_kernels():
            return ours()

    def diffusers() -> Tensor:
        return other(video, timestep, text).sample.transpose(1, 2).reshape(x.shape)

    def matched() -> Tensor:
        with norm_over_frames(module):
            return ours()

    contenders: dict[str, Callable[[], Tensor]] = {
        "plain": plain, "ours": ours, "torch's operators": by_torch, "diffusers": diffusers}
    found = alternate(contenders, rounds=plan.rounds, warm_up={"ours": matched}, seconds_of=plan.timer)
    difference = (found["ours"].first.float() - found["diffusers"].first.float()).abs().max().item()
    times = {f"{name} ms": 1e3 * timing.median for name, timing in found.items()}
    return {"frames": frames, "pixels": plan.pixels, "dtype": dtype, **times,
            **_graphs(plan, {"plain": plain, "ours": with_motion}, x),
            **_channels_last(plan, unet, plain, ours),
            "ours/plain": times["ours ms"] / times["plain ms"],
            "diffusers/plain": times["diffusers ms"] / times["plain ms"],
            "diffusers/ours": times["diffusers ms"] / times["ours ms"],
            "largest difference": f"{difference:.1e}",
            "largest value": f"{found['diffusers'].first.abs().max().item():.1e}",
            **peaks(contenders, x.is_cuda)}


def _graphs(plan: Plan, calls: dict[str, Callable[[], Tensor]], x: Tensor) -> dict[str, float | None]:
    """Return the ms of each call replayed as a CUDA graph; None if capturing fails.

    The calls are without `prompts_once`, since it reads values from the device.
    """
    times: dict[str, float | None] = {}
    for name, call in calls.items() if x.is_cuda else ():
        graph = torch.cuda.CUDAGraph()
        try:
            torch.cuda.synchronize()
            with torch.cuda.graph(graph):
                call()
            times[f"{name} graph ms"] = 1e3 * sorted(plan.timer(graph.replay) for _ in range(3))[1]
        except RuntimeError as error:
            print(f"  no graph of {name}: {str(error).splitlines()[0]}", flush=True)
            times[f"{name} graph ms"] = None
        del graph
    return times


def _channels_last(plan: Plan, unet: nn.Module, plain: Callable[[], Tensor], ours: Callable[[], Tensor]
                   ) -> dict[str, float]:
    unet.to(memory_format=torch.channels_last)
    try:
        found = alternate({"plain channels last": plain, "ours channels last": ours}, rounds=max(1, plan.rounds // 2),
                          seconds_of=plan.timer)
    finally:
        unet.to(memory_format=torch.contiguous_format)
    return {f"{name} ms": 1e3 * timing.median for name, timing in found.items()}
