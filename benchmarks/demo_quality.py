"""Check that the demo model's clips show the colour, shape and direction of their prompts; see benchmarks.measure.

64 prompts × 2 seeds at the default settings, with and without the motion module. Without it frames are independent, so
the direction must be right by chance only.
"""
from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from animatediff.engine.pipeline import Pipeline
from animatediff.settings import Settings
from benchmarks.measure import track
from training.clips import DIRECTIONS
from training.shapes import BACKGROUNDS, COLOURS, SHAPES

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
    """A prompt and the expected contents of its clip."""

    text: str
    colour: str
    shape: str
    direction: str | None  # None if the prompt names none


def prompts() -> list[Prompt]:
    """Return 64 prompts: every direction with six shapes and colours each, then 16 with the other motions."""
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
    """Return the summary of the clips of these prompts and seeds."""
    return summary([
        verdict(list(pipeline.render(dataclasses.replace(settings, prompt=prompt.text, seed=seed))), prompt, seed)
        for prompt in asked for seed in seeds
    ])  # fmt: skip


def verdict(frames: list[np.ndarray], prompt: Prompt, seed: int) -> dict:
    """Return what one clip shows of its prompt. Colour and shape count if most frames show them."""
    sights, found = track(frames)
    half = len(frames) / 2
    colour = sum(s is not None and s.colour == prompt.colour for s in sights) > half
    shape = sum(s is not None and s.shape == prompt.shape for s in sights) > half
    direction = found == prompt.direction if prompt.direction else None
    seen = [s.background.mean() for s in sights if s]
    step = float(np.abs(np.diff(seen)).mean()) if len(seen) > 1 else 255.0
    missed = not (colour and shape and direction is not False)
    return {"colour": colour, "shape": shape, "direction": direction, "step": step,
            "miss": f"{prompt.text} (seed {seed}): {found}" if missed else ""}


def summary(verdicts: list[dict]) -> dict:
    """Return the shares (in 0..1) of clips that show their prompt's colour, shape and direction."""
    directions = [one["direction"] for one in verdicts if one["direction"] is not None]
    return {
        "clips": len(verdicts),
        "colour": float(np.mean([one["colour"] for one in verdicts])),
        "shape": float(np.mean([one["shape"] for one in verdicts])),
        "direction": float(np.mean(directions)) if directions else float("nan"),
        "background step, of 255": float(np.mean([one["step"] for one in verdicts])),
        "misses": [one["miss"] for one in verdicts if one["miss"]],
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
