"""Frames per second of each writer on the CPU of a machine with a GPU, with which they must keep pace."""
from __future__ import annotations

from importlib.util import find_spec

from benchmarks.gpu.plan import Plan

PACKAGES = ("av", "imageio", "imageio_ffmpeg")


def run(plan: Plan) -> list[dict]:
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        return [{"missing packages": ", ".join(missing)}]
    from benchmarks import writers

    return writers.run(quick=plan.device == "cpu")
