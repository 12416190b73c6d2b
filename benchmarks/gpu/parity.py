"""The motion module against float64 on the CPU: fp32, fp16 and bf16, with and without kernels, windows of all lengths.

The error is the largest difference from float64, divided by the largest value. The last rows compare a clip that
exceeds the CUDA grid limit in one dimension with the same clip in two halves.
"""
from __future__ import annotations

import copy

import torch

from animatediff.motion.transformer import TemporalTransformer
from benchmarks.gpu.plan import DTYPES, Plan, without_kernels
from benchmarks.unet_step import filled

GRID = 65_535


@torch.no_grad()
def run(plan: Plan) -> list[dict]:
    full = plan.device == "cuda"
    rows = [_row(plan, channels, 4 if full else 2, frames, over_frames, dtype)
            for channels in sorted({*plan.widths}) for frames, over_frames in ((16, False), (24, True), (32, False))
            for dtype in DTYPES]
    return rows + ([_beyond_the_grid(plan, dtype) for dtype in plan.dtypes] if full else [])


def site_of(channels: int, over_frames: bool = False) -> TemporalTransformer:
    with torch.device("meta"):
        site = TemporalTransformer(channels, 8, 32, False, over_frames)
    return filled(site)


def _row(plan: Plan, channels: int, side: int, frames: int, over_frames: bool, dtype: str) -> dict:
    site = site_of(channels, over_frames).to(DTYPES[dtype])
    x = torch.randn(2 * frames, channels, side, side, generator=torch.Generator().manual_seed(1)).to(DTYPES[dtype])
    scale, effect = torch.rand(2, frames, side, side) + 0.5
    exact = copy.deepcopy(site).double()(x.double(), frames, scale.double(), effect.double())
    site, x = site.to(plan.device), x.to(plan.device)

    def error() -> float:
        found = site(x, frames, scale, effect)
        return ((found.double().cpu() - exact).abs().max() / exact.abs().max()).item()

    found = error()
    kernels = site.fused is not None
    with without_kernels():
        plain = error()
    return {"channels": channels, "frames": frames, "norm over frames": over_frames, "dtype": dtype,
            "kernels": kernels, "error": f"{found:.1e}", "error of torch's operators": f"{plain:.1e}"}


def _beyond_the_grid(plan: Plan, dtype: str) -> dict:
    frames, channels, side = 2, 64, 192  # 2 · 192² positions are 73,728
    site = site_of(channels).to(plan.device, DTYPES[dtype])
    x = torch.randn(2 * frames, channels, side, side, device=plan.device, dtype=DTYPES[dtype])
    assert len(x) // frames * side**2 > GRID
    whole, halves = site(x, frames), torch.cat([site(clip, frames) for clip in x.split(frames)])
    kernels = site.fused is not None
    with without_kernels():
        plain = site(x, frames)
    most = plain.abs().max().float()
    return {"channels": channels, "frames": frames, "norm over frames": False, "dtype": dtype, "kernels": kernels,
            "error": f"{((whole - halves).abs().max() / most).item():.1e}",
            "error of torch's operators": f"{((plain - halves).abs().max() / most).item():.1e}"}
