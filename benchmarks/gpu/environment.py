"""The device of the measurements, and its peak speed in copies of large tensors and products of large matrices."""
from __future__ import annotations

import shutil
import subprocess
from statistics import median

import torch

from benchmarks.gpu.plan import Plan

ASKED = "name,driver_version,clocks.sm,clocks.mem,clocks.max.sm,clocks.max.mem,power.limit,memory.total,utilization.gpu"


def run(plan: Plan) -> list[dict]:
    return [{"what": what, "value": value} for what, value in {**_software(), **_device(), **ceilings(plan)}.items()]


def _software() -> dict[str, str]:
    try:
        import triton
    except ImportError:
        version = "none"
    else:
        version = triton.__version__
    return {"torch": torch.__version__, "CUDA": str(torch.version.cuda or torch.version.hip), "Triton": version}


def _device() -> dict[str, str]:
    command = shutil.which("nvidia-smi")
    if command is None:
        return {}
    answer = subprocess.run([command, f"--query-gpu={ASKED}", "--format=csv,noheader"], capture_output=True, text=True)
    return dict(zip(ASKED.split(","), map(str.strip, answer.stdout.split("\n")[0].split(","))))


def ceilings(plan: Plan) -> dict[str, float]:
    """Return the speed of a copy in TB/s (read and written) and of a product in bf16 in TFLOP/s."""
    full = plan.device == "cuda"
    copied = torch.randn(2**29 if full else 2**16, device=plan.device)
    into, size = torch.empty_like(copied), 8192 if full else 128
    a, b = (torch.randn(size, size, device=plan.device, dtype=torch.bfloat16) for _ in range(2))

    def best(call) -> float:
        call()
        return median(plan.timer(call) for _ in range(3))

    return {"copy TB/s": 2 * copied.nbytes / best(lambda: into.copy_(copied)) / 1e12,
            "product TFLOP/s": 2 * size**3 / best(lambda: a @ b) / 1e12}
