"""Time of the motion module's transformers by kind of operator, from torch's profiler, over the sites of SD1.5's UNet.

*diffusers* is the straightforward implementation. *ours, plain layers* has our tiles and layouts but torch's linear
layers. *ours* is the implementation in use. 16 frames, equal weights. The figures include a few per cent of profiler
overhead.
"""
from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from contextlib import nullcontext
from unittest.mock import patch

import torch
from torch.profiler import ProfilerActivity, profile

from animatediff.motion import transformer
from benchmarks.motion_part import FRAMES, PLACES, pair

# Kind of operator -> parts of operator names; the first match counts.
KINDS = {
    "attention": ("attention", "softmax", "bmm", "baddbmm"),
    "products": ("mkldnn", "addmm", "linear", "mm", "gemm", "cutlass"),
    "norms": ("norm",), "GELU, gate, residuals": ("gelu", "mul", "add", "silu"), "layout changes and copies": (
        "copy", "clone", "contiguous", "reshape", "to_copy", "cat", "transpose", "permute", "memcpy"),
}


def run(quick: bool = False) -> list[dict]:
    pixels = 64 if quick else 256
    found: dict[str, dict[str, float]] = {name: defaultdict(float)
                                          for name in ("diffusers", "ours, plain layers", "ours")}
    for channels, per, count in PLACES:
        ours, theirs = pair(channels)
        x = torch.randn(FRAMES, channels, pixels // per, pixels // per)
        plainly = patch.object(transformer, "packed", lambda transformer, before: None)
        for name, call, around in (("diffusers", lambda: theirs(x, num_frames=FRAMES), nullcontext()),
                                   ("ours, plain layers", lambda: ours(x, FRAMES), plainly),
                                   ("ours", lambda: ours(x, FRAMES), nullcontext())):
            with around:
                for kind, seconds in _profiled(call, rounds=1 if quick else 3).items():
                    found[name][kind] += count * seconds
    rows = []
    for name, kinds in found.items():
        whole = sum(kinds.values())
        shares = {f"{kind} s": kinds[kind] for kind in [*KINDS, "the rest"]}
        rows.append({"pixels": pixels, "dtype": "fp32", "implementation": name, **shares, "all s": whole})
    return rows


@torch.no_grad()
def _profiled(call: Callable[[], torch.Tensor], rounds: int) -> dict[str, float]:
    """Return the seconds of one call by kind of operator."""
    call()
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        for _ in range(rounds):
            call()
    seconds: dict[str, float] = defaultdict(float)
    for event in seen.key_averages():
        own = event.self_cpu_time_total
        seconds[_kind(event.key)] += own / 1e6 / rounds
    return seconds


def _kind(operator: str) -> str:
    name = operator.lower()
    return next((kind for kind, words in KINDS.items() if any(word in name for word in words)), "the rest")
