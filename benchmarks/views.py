"""The cost of overlapping windows in a step of 64 frames: around the UNet, and inside the motion module ("views").

The baseline has no overlap: four independent clips of 16 frames in one call. SD1.5 at full size with a v2 module and
random weights, without guidance, on the CPU.
"""
from __future__ import annotations

import torch
from torch import Tensor

from animatediff import windows
from animatediff.layout import ClipLayout, Views
from animatediff.motion import injected
from animatediff.settings import Settings
from benchmarks.timing import alternate
from benchmarks.unet_step import TIMESTEP, TOKENS, Plan, networks

CONTEXT = 16
QUICK, PLAN = Plan((32, 64, 64, 64), 32, (64,), 2), Plan(pixels=(128,), rounds=5)


def run(quick: bool = False) -> list[dict]:
    plan = QUICK if quick else PLAN
    unet, module = networks(plan)
    return [_case(unet, module, plan, 2 * CONTEXT if quick else 4 * CONTEXT, pixels) for pixels in plan.pixels]


@torch.no_grad()
def _case(unet, module, plan: Plan, frames: int, pixels: int) -> dict:
    random = torch.Generator().manual_seed(pixels)
    x = torch.randn(frames, 4, pixels // 8, pixels // 8, generator=random)
    text = torch.randn(1, TOKENS, plan.text, generator=random).expand(frames, -1, -1)
    whole, clip = tuple(range(frames)), Settings(enable=True, frames=frames, context_schedule="views")
    around = windows.plan(frames, CONTEXT, schedule="static standard")

    def call(layout: ClipLayout, rows: tuple[int, ...]) -> Tensor:
        with injected(unet, module, lambda n: layout):
            return unet(x[list(rows)], TIMESTEP, text[list(rows)]).sample

    found = alternate({
        "apart": lambda: call(ClipLayout.contiguous(CONTEXT, frames // CONTEXT), whole),
        "views": lambda: call(ClipLayout.contiguous(whole, 1, Views.of(clip, frames, whole, 0)), whole),
        "windows": lambda: [call(ClipLayout.contiguous(window), window) for window in around],
    }, rounds=plan.rounds, say=f"{frames} frames, {pixels} pixels")  # fmt: skip
    times = {name: timing.median for name, timing in found.items()}
    return {"frames": frames, "pixels": pixels, "windows": len(around), "rounds": len(found["views"].seconds),
            "without overlap s": times["apart"], "views s": times["views"], "windows s": times["windows"],
            "views/without overlap": times["views"] / times["apart"],
            "windows/without overlap": times["windows"] / times["apart"]}
