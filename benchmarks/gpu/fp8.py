"""Products with fp8 weights and inputs (e4m3, one scale per row) against fp16, in the sizes of the feed-forward."""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.gpu.plan import Plan
from benchmarks.timing import alternate

MOST = 448.0  # largest value of e4m3


@torch.no_grad()
def run(plan: Plan) -> list[dict]:
    if plan.device != "cuda" or torch.cuda.get_device_capability() < (8, 9):
        return [{"channels": 0, "result": "no fp8 on this device"}]
    return [_row(plan, channels, side) for channels, side, _ in plan.places()]


def _row(plan: Plan, channels: int, side: int) -> dict:
    x = torch.randn(2 * plan.frames[0] * side**2, channels, device=plan.device, dtype=torch.float16)
    weight = torch.randn(8 * channels, channels, device=plan.device, dtype=torch.float16) * channels**-0.5
    weight8 = _quantised(weight)

    def in_fp8() -> Tensor:
        x8 = _quantised(x)
        return torch._scaled_mm(x8[0], weight8[0].t(), x8[1], weight8[1].t(), out_dtype=torch.bfloat16)

    def product_alone() -> Tensor:
        return torch._scaled_mm(ready[0], weight8[0].t(), ready[1], weight8[1].t(), out_dtype=torch.bfloat16)

    ready = _quantised(x)
    found = alternate({"fp16": lambda: F.linear(x, weight), "fp8": in_fp8, "fp8 product alone": product_alone},
                      rounds=plan.rounds, seconds_of=plan.timer)
    plain, other = (found[name].first.float() for name in ("fp16", "fp8"))
    return {"channels": channels, "rows": len(x), **{f"{name} ms": 1e3 * t.median for name, t in found.items()},
            "error": f"{((plain - other).norm() / plain.norm()).item():.1e}"}


def _quantised(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return x [row c] in e4m3 and a scale [row 1]."""
    scale = x.abs().amax(1, keepdim=True).float().clamp(min=1e-6) / MOST
    return (x / scale).to(torch.float8_e4m3fn), scale
