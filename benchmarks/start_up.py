"""Time before the first step: importing the extension in the real WebUI, and loading a motion module.

The import time is the WebUI's own figure (/internal/profile-startup), the median of three starts; it needs WEBUI_DIR,
as tests/hosts/webui does. A v2 module at full size is loaded in its own process from a file in the page cache. Its
memory includes the pages of a mapped file.
"""
from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import torch

from benchmarks import unet_step
from benchmarks.process import child, peak, reset_peak, resident

ROOT = Path(__file__).resolve().parents[1]
STARTS = 3
# Suffix of a file in fp16, as most modules are, and dtype of the UNet: fp16 on a GPU, fp32 on a CPU.
LOADED = ((".safetensors", "fp16"), (".ckpt", "fp16"), (".safetensors", "fp32"))


def run(quick: bool = False) -> list[dict]:
    with tempfile.TemporaryDirectory() as folder:
        return [*_import(Path(folder)), *_modules(Path(folder), unet_step.QUICK if quick else unet_step.Plan())]


def _row(what: str, **more: float | str) -> dict:
    return {"what": what} | {"file MiB": "", "seconds": "", "memory MiB": "", "memory/file": ""} | more


def _import(folder: Path) -> list[dict]:
    if "WEBUI_DIR" not in os.environ:
        print("  the WebUI is skipped: set WEBUI_DIR to its folder")
        return []
    tests = ROOT / "tests" / "hosts" / "webui"
    sys.path.insert(0, str(tests))
    from webui_host import Host

    host, seconds = Host(folder / "webui", {"animatediff": ROOT}), []
    for _ in range(STARTS + 1):  # the first start writes bytecode and is not counted
        try:
            records = host.start().get("/internal/profile-startup").expect().body["records"]
        finally:
            host.stop()
        seconds.append(sum(spent for name, spent in records.items() if name.startswith("load scripts/animatediff")))
        print(f"  import in the WebUI: {seconds[-1]:.3f} s of {sum(records.values()):.3g} s", flush=True)
    return [_row("import in the WebUI", seconds=median(seconds[1:]))]


def _modules(folder: Path, plan: unet_step.Plan) -> list[dict]:
    from safetensors.torch import save_file

    rows = []
    for suffix, wanted in LOADED:
        first, path = folder / f"first{suffix}", folder / f"v2{suffix}"
        for sizes, file in ((unet_step.QUICK, first), (plan, path)):
            if not file.exists():
                tensors = unet_step.motion_module(sizes).half().state_dict()
                save_file(tensors, file) if suffix == ".safetensors" else torch.save(tensors, file)
        found, size = child("benchmarks.start_up", first, path, wanted), path.stat().st_size / 2**20
        rows.append(_row(f"load {suffix} in fp16, UNet in {wanted}", **{
            "file MiB": size, **found, "memory/file": found["memory MiB"] / size}))
        print(f"  {suffix} for {wanted}: {found}", flush=True)
    return rows


def _load(first: str, path: str, dtype: str) -> dict[str, float]:
    """Return the memory of loading a file and the median seconds of three more loads; run this in its own process."""
    from animatediff.motion import load

    warm = load(first)  # does the imports; kept, so that its memory is not reused
    reset, before = reset_peak(), resident()
    module = load(path, dtype=unet_step.DTYPES[dtype])
    for tensor in module.state_dict().values():
        tensor.sum()  # reads all of it
    memory, seconds = (peak(reset) - before) / 2**20, []
    for _ in range(3):
        began = time.perf_counter()
        load(path, dtype=unet_step.DTYPES[dtype])
        seconds.append(time.perf_counter() - began)
    del warm
    return {"seconds": median(seconds), "memory MiB": memory}


if __name__ == "__main__":
    print(json.dumps(_load(*sys.argv[1:])))
