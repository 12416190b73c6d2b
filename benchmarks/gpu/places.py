"""Each kind of site of the motion module: with kernels, with torch's operators, diffusers', and a lower bound.

The bound (*floor*) is the longer of two times: that of the FLOPs of the matrix products, and that of reading input and
weights and writing the output once, at the rates measured by `environment` or stated in a data sheet.
"""
from __future__ import annotations

import torch

from benchmarks.gpu.environment import ceilings
from benchmarks.gpu.plan import DTYPES, Plan, without_kernels
from benchmarks.motion_part import pair
from benchmarks.timing import alternate

SHEETS = {"H100 sheet ms": (3.35, 989), "H200 sheet ms": (4.8, 989)}  # TB/s, dense TFLOP/s in half precision


@torch.no_grad()
def run(plan: Plan) -> list[dict]:
    measured = ceilings(plan)
    rates = {"floor ms": (measured["copy TB/s"], measured["product TFLOP/s"]), **SHEETS}
    rows = []
    for dtype in plan.dtypes:
        for frames in plan.frames:
            site_rows = [_row(plan, place, dtype, frames, rates) for place in plan.places()]
            rows += [*site_rows, _sum(site_rows)]
    return rows


def floor(channels: int, tokens: int, rate: tuple[float, float]) -> float:
    """Return the lower bound in milliseconds: 44·c² FLOP per token, 22·c² weights of 2 bytes.

    rate: TB/s and TFLOP/s.
    """
    bandwidth, products = rate
    moved = 2 * (2 * tokens * channels + 22 * channels**2)
    return 1e3 * max(44 * channels**2 * tokens / (products * 1e12), moved / (bandwidth * 1e12))


def _row(plan: Plan, place: tuple[int, int, int], dtype: str, frames: int, rates: dict) -> dict:
    channels, side, count = place
    ours, theirs = (each.to(plan.device, DTYPES[dtype]) for each in pair(channels))
    x = torch.randn(2 * frames, channels, side, side, device=plan.device).to(DTYPES[dtype])

    def plain() -> torch.Tensor:
        with without_kernels():
            return ours(x, frames)

    contenders = {"ours": lambda: ours(x, frames), "torch's operators": plain,
                  "diffusers": lambda: theirs(x, num_frames=frames)}
    found = alternate(contenders, rounds=plan.rounds, seconds_of=plan.timer)
    times = {f"{name} ms": 1e3 * timing.median for name, timing in found.items()}
    tokens = x.numel() // channels
    return {"frames": frames, "dtype": dtype, "channels": str(channels), "positions": f"{side}×{side}",
            "in the UNet": count, **times, "diffusers/ours": times["diffusers ms"] / times["ours ms"],
            **{name: floor(channels, tokens, rate) for name, rate in rates.items()}, **peaks(contenders, x.is_cuda)}


def peaks(contenders: dict, on_gpu: bool) -> dict[str, float]:
    """Return the peak memory of each call in MiB, above the memory allocated before it; empty without a GPU."""
    found = {}
    for name, call in contenders.items() if on_gpu else ():
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        found[f"{name} peak MiB"] = (torch.cuda.max_memory_allocated() - before) / 2**20
    return found


def _sum(rows: list[dict]) -> dict:
    """Return the row of all sites: the sum of times and the highest peaks."""
    total = {name: sum(row[name] * row["in the UNet"] for row in rows) for name in rows[0] if name.endswith(" ms")}
    highest = {name: max(row[name] for row in rows) for name in rows[0] if name.endswith("MiB")}
    return rows[0] | {"channels": "all places", "positions": "", "in the UNet": sum(row["in the UNet"] for row in rows),
                      **total, "diffusers/ours": total["diffusers ms"] / total["ours ms"], **highest}
