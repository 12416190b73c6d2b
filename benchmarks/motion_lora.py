"""Check that the demo's motion LoRAs move the camera as their names say, with prompts for shapes at rest.

16 prompts × 2 seeds without a LoRA and with each LoRA at the weights 1 and -1. A pan to the left moves the contents of
the picture to the right.
"""
from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from animatediff.engine.pipeline import Pipeline
from animatediff.settings import Settings
from benchmarks.measure import track
from training.shapes import BACKGROUNDS, COLOURS, SHAPES

ZOOM, PAN = 1.25, 12.0  # thresholds of a camera movement: factor of lengths, pixels of 64
SEEDS = (1000, 2000)  # far apart, since frame i uses seed + i and neighbouring seeds would share most noise
WEIGHTS = (1.0, -1.0)


@dataclass(frozen=True)
class Movement:
    """The movement of a clip's shape from the first frame to the last; NaN if most frames do not show it."""

    zoom: float  # factor of lengths
    right: float  # pixels of 64
    down: float  # pixels of 64

    @property
    def cameras(self) -> set[str]:
        """The possible camera movements. With one shape, an off-centre zoom cannot be distinguished from a pan."""
        found = {"zoom-in": self.zoom >= ZOOM, "zoom-out": self.zoom <= 1 / ZOOM,
                 "pan-left": self.right >= PAN, "pan-right": self.right <= -PAN}
        return {name for name, yes in found.items() if yes}


def movement(frames: list[np.ndarray]) -> Movement:
    """Return the movement, from straight lines fitted to the centres and to the logarithm of the area."""
    sights, _ = track(frames)
    seen = [(i, *s.centre, np.log(s.area) / 2) for i, s in enumerate(sights) if s]
    if len(seen) <= len(frames) / 2:
        return Movement(np.nan, np.nan, np.nan)
    times, *lines = np.array(seen).T
    right, down, growth = (np.polyfit(times, line, 1)[0] * (len(frames) - 1) for line in lines)
    unit = frames[0].shape[0] / 64
    return Movement(float(np.exp(growth)), float(right / unit), float(down / unit))


def prompts() -> list[str]:
    """Return 16 prompts for shapes at rest."""
    colours, shapes, places = list(COLOURS), list(SHAPES), [None, *BACKGROUNDS]
    chosen = []
    for k in range(16):
        colour, shape, place = colours[(3 * k + k // 8) % 8], shapes[(k + k // 5) % 5], places[(2 * k + k // 5) % 5]
        article = "an" if colour == "orange" else "a"
        chosen.append(f"{article} {colour} {shape} at rest" + (f" on a {place} background" if place else ""))
    return chosen


def score(pipeline: Pipeline, motion_lora: str, asked: Iterable[str], seeds: Iterable[int]) -> list[Movement]:
    """Return the movements in the clips of these prompts and seeds."""
    settings = Settings(enable=True, motion_lora=motion_lora)
    return [movement(list(pipeline.render(dataclasses.replace(settings, prompt=prompt, seed=seed))))
            for prompt in asked for seed in seeds]


def run(quick: bool) -> list[dict]:
    from animatediff.engine.models import DEMO_LORAS

    pipeline = Pipeline.load()
    asked, seeds = (prompts()[:2], SEEDS[:1]) if quick else (prompts(), SEEDS)
    names = sorted(path.stem for path in DEMO_LORAS.glob("*.safetensors"))
    rows = []
    for text in ["", *(f"{name}: {weight:g}" for name in names for weight in WEIGHTS)]:
        found = score(pipeline, text, asked, seeds)
        rows.append({"motion LoRA": text or "none", "clips": len(found),
                     **{f"look like {name}": sum(name in each.cameras for each in found) for name in names},
                     "zoom, median": float(np.nanmedian([each.zoom for each in found])),
                     "pixels to the right, median": float(np.nanmedian([each.right for each in found]))})
        print(rows[-1], flush=True)
    return rows
