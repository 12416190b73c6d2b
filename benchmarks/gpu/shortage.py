"""A clip with capped memory: which fallbacks are taken, in which order, and how much the result differs.

64 frames in windows of 16 with guidance, four windows per call. The cap is a share of the peak without a cap.
"""
from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from animatediff.layout import ClipLayout, Group
from animatediff.motion import injected
from animatediff.sampling.memory import WhileSampling
from benchmarks.gpu.plan import DTYPES, Plan
from benchmarks.gpu.step import networks
from benchmarks.unet_step import TIMESTEP, TOKENS

SHARES = (1.0, 0.6, 0.35, 0.2, 0.1)


@torch.no_grad()
def run(plan: Plan) -> list[dict]:
    dtype = plan.dtypes[0]
    unet, module = networks(plan, dtype)
    frames, side, full = plan.frames[0], plan.pixels // 8, plan.device == "cuda"
    windows = [tuple(range(start, start + frames)) for start in range(0, 4 * frames, frames)]
    x = torch.randn(4 * frames, 4, side, side, device=plan.device).to(DTYPES[dtype])
    text = torch.randn(2, TOKENS, plan.text, device=plan.device).to(DTYPES[dtype])

    def clip(fallbacks: list[str]) -> tuple[Tensor, float]:
        with WhileSampling(torch.device(plan.device), fallbacks.append, lambda: (), 4, unet, module) as memory:
            began = time.perf_counter()
            found = memory.of_windows(lambda rows, some: _guided(memory, unet, module, rows, text, some), x, windows)
            if full:
                torch.cuda.synchronize()
            return found, time.perf_counter() - began

    if not full:
        return [{"cap": 1.0, "GiB": 0.0, "given up": "; ".join(_fallbacks(clip)), "difference": "0", "s": clip([])[1]}]
    clip([])
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    weights = torch.cuda.memory_allocated()
    plenty, _ = clip([])
    peak, rows = torch.cuda.max_memory_allocated() - weights, []
    for share in SHARES:
        rows.append(_capped(share, weights + share * peak, clip, plenty))
    return rows


def _fallbacks(clip) -> list[str]:
    fallbacks: list[str] = []
    clip(fallbacks)
    return fallbacks


def _capped(share: float, most: float, clip, plenty: Tensor) -> dict:
    total = torch.cuda.get_device_properties(0).total_memory
    fallbacks: list[str] = []
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(min(1.0, 1.02 * most / total))
    try:
        found, seconds = clip(fallbacks)
        difference = f"{((found - plenty).abs().max() / plenty.abs().max()).item():.1e}"
    except torch.cuda.OutOfMemoryError:
        difference, seconds = "out of memory", 0.0
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    return {"cap": share, "GiB": most / 2**30, "given up": "; ".join(fallbacks), "difference": difference, "s": seconds}


def _guided(memory: WhileSampling, unet, module, rows: Tensor, text: Tensor, windows: Sequence[Group]) -> Tensor:
    """Return the result of prompt and negative prompt, in one call or two, with guidance 7.5."""
    frames = len(windows[0])

    def call(roles: Sequence[int]) -> Tensor:
        tokens = torch.cat([text[role].expand(len(rows), -1, -1) for role in roles])
        with injected(unet, module, lambda count: ClipLayout.contiguous(frames, count // frames)):
            return unet(rows.repeat(len(roles), 1, 1, 1), TIMESTEP, tokens).sample

    negative, prompt = memory.of_roles(call, (0, 1)).chunk(2)
    return negative + 7.5 * (prompt - negative)
