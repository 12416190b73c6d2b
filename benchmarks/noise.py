"""Stillness of shapes at rest in clips of four windows, by kind of noise and with FreeInit, on the demo model."""
from __future__ import annotations

import dataclasses

import numpy as np

from animatediff.engine.pipeline import Pipeline
from animatediff.settings import NOISE_KINDS, Settings
from benchmarks.measure import look

PROMPTS = ("a red circle at rest on a white background", "a blue star at rest on a black background",
           "a green square at rest on a gray background")
FIRST_SEED = 11
WAYS = {**{kind: {"noise": kind} for kind in NOISE_KINDS}, "per frame, FreeInit": {"freeinit_iterations": 3},
        "per frame, FreeInit, fast": {"freeinit_iterations": 3, "freeinit_fast": True},
        "FreeNoise, FreeInit": {"noise": "FreeNoise", "freeinit_iterations": 3}}


def stillness(frames: list[np.ndarray]) -> dict[str, float]:
    """Return measures of a clip's stillness.

    change: mean difference of neighbouring frames, of 255. jump: the shape's largest distance between neighbouring
    frames, in pixels. wandering: root mean square distance of the shape from its mean position, in pixels.
    background: root mean square distance of the background from its mean colour, of 441.
    """
    sights = [sight for sight in map(look, frames) if sight]
    centres, colours = (np.array([getattr(sight, name) for sight in sights]) for name in ("centre", "background"))
    return {"change": float(np.abs(np.diff(np.stack(frames).astype(float), axis=0)).mean()),
            "jump": float(np.hypot(*np.diff(centres, axis=0).T).max()),
            "wandering": _spread(centres), "background": _spread(colours)}


def run(quick: bool) -> list[dict]:
    pipeline = Pipeline.load()
    base = Settings(enable=True, frames=20 if quick else 64, context_schedule="static standard",
                    steps=2 if quick else 12)
    rows = []
    for name, more in WAYS.items():
        settings = dataclasses.replace(base, **more)
        found = [stillness(list(pipeline.render(dataclasses.replace(settings, prompt=prompt, seed=FIRST_SEED + k))))
                 for k, prompt in enumerate(PROMPTS[:1] if quick else PROMPTS)]
        rows.append({"noise": name, "UNet calls": pipeline.plan(settings).calls(),
                     **{key: float(np.mean([one[key] for one in found])) for key in found[0]}})
        print(rows[-1], flush=True)
    return rows


def _spread(points: np.ndarray) -> float:
    return float(np.sqrt(np.square(points - points.mean(0)).sum(-1).mean()))
