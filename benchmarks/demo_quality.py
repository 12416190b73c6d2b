"""How well the demo model's clips show what their prompts say, by the measurements of benchmarks.measure.

64 prompts × 2 seeds at the default settings, and the same without the motion module, where frames know nothing
of each other and the direction must be at chance.
"""
from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from animatediff.engine.pipeline import Pipeline
from animatediff.settings import Settings
from training.clips import DIRECTIONS
from training.shapes import BACKGROUNDS, COLOURS, SHAPES

from .measure import track

WORDS = {
    "right": "moving right",
    "left": "moving left",
    "up": "moving up",
    "down": "moving down",
    "up right": "moving up and right",
    "up left": "moving up and left",
    "down right": "moving down and right",
    "down left": "moving down and left",
    "grow": "growing",
    "shrink": "shrinking",
    "spin": "spinning",
    "bounce": "bouncing",
    "rest": "standing still",
}


@dataclass(frozen=True)
class Prompt:
    """A prompt and what its clip must show; `direction` is None where it names none."""

    text: str
    colour: str
    shape: str
    direction: str | None


def prompts() -> list[Prompt]:
    """64 prompts: every direction with six shapes and colours each, then 16 with the other motions."""
    chosen = []
    colours, shapes, places = list(COLOURS), list(SHAPES), [None, *BACKGROUNDS]
    motions = [*DIRECTIONS] * 6 + [m for m in WORDS if m not in DIRECTIONS] * 3 + ["rest"]
    for k, motion in enumerate(motions):
        colour, shape = colours[(k + k // 8) % 8], shapes[(k + k // 5) % 5]
        if motion == "spin" and shape == "circle":
            shape = "star"
        place = places[(k * 2 + k // 5) % 5]
        article = "an" if colour == "orange" else "a"
        text = f"{article} {colour} {shape} {WORDS[motion]}" + (f" on a {place} background" if place else "")
        chosen.append(Prompt(text, colour, shape, motion if motion in DIRECTIONS else None))
    return chosen


def score(pipeline: Pipeline, asked: Iterable[Prompt], seeds: Iterable[int], settings: Settings) -> dict:
    """Shares in 0..1. Colour and shape of a clip are right when most of its frames show them."""
    colour, shape, direction, steadiness, misses = [], [], [], [], []
    for prompt in asked:
        for seed in seeds:
            one = dataclasses.replace(settings, prompt=prompt.text, seed=seed)
            frames = list(pipeline.render(one))
            sights, found = track(frames)
            half = len(frames) / 2
            colour.append(sum(s is not None and s.colour == prompt.colour for s in sights) > half)
            shape.append(sum(s is not None and s.shape == prompt.shape for s in sights) > half)
            if prompt.direction:
                direction.append(found == prompt.direction)
            seen = [s.background.mean() for s in sights if s]
            steadiness.append(float(np.abs(np.diff(seen)).mean()) if len(seen) > 1 else 255.0)
            if not (colour[-1] and shape[-1] and (not prompt.direction or direction[-1])):
                misses.append(f"{prompt.text} (seed {seed}): {found}")
    return {
        "clips": len(colour),
        "colour": float(np.mean(colour)),
        "shape": float(np.mean(shape)),
        "direction": float(np.mean(direction)) if direction else float("nan"),
        "background step, of 255": float(np.mean(steadiness)),
        "misses": misses,
    }


def run(quick: bool) -> list[dict]:
    pipeline = Pipeline.load()
    asked, seeds = (prompts()[::8], [1]) if quick else (prompts(), [1, 2])
    rows = []
    kinds = {"with motion module": Settings(enable=True), "without": Settings(enable=False, frames=16)}
    for name, settings in kinds.items():
        result = score(pipeline, asked, seeds, settings)
        for miss in result.pop("misses") if settings.enable else []:
            print("  missed:", miss)
        rows.append({"clips of the demo model": name, **{k: v for k, v in result.items() if k != "misses"}})
        print(rows[-1], flush=True)
    return rows
