"""Clips that are refined in windows with the motion module, and picture by picture, at the same denoising strength.

The demo model makes clips; each is refined as `animatediff refine` does. *error* is the temporal error in the flow of
the clip before, of 255, *PSNR* the same in decibels (media/measure/temporal.py); *change* is the mean absolute
difference from the enlarged frames. *noise*: another for each frame, or the same for all, as the WebUI's Batch tab has
it. *wins*: clips of which the version in windows, with the same kind of noise, has the smaller error.
"""
from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from animatediff.clip.finished import Finished
from animatediff.clip.refine import Refinement
from animatediff.engine import models
from animatediff.engine.pipeline import Pipeline
from animatediff.media import read
from animatediff.media.measure.temporal import TemporalError, TemporalMeter
from animatediff.media.write import ClipWriter
from animatediff.settings import Settings

PROMPTS = ("a red circle moving right", "a blue star spinning on a black background", "a green square moving up")
# Scale, denoising strength, frames, prompts.
PLANS = ((1, 0.3, 16, 3), (1, 0.5, 16, 3), (2, 0.5, 16, 1), (1, 0.5, 32, 1))
STEPS = 12
SEEDS = (1, 2)
NOT, WINDOWS, PICTURES = "not", "in windows", "picture by picture"
NOISE = {"own": "per frame", "same": "constant"}
Way = tuple[str, str]  # how a clip is refined, and with which noise


def run(quick: bool = False) -> list[dict]:
    pipeline, rows = Pipeline.load(), []
    with tempfile.TemporaryDirectory() as folder:
        for scale, strength, frames, prompts in PLANS[:1] if quick else PLANS:
            found: dict[Way, list[tuple[TemporalError, float]]] = {}
            for prompt in PROMPTS[: 1 if quick else prompts]:
                for seed in SEEDS[:1] if quick else SEEDS:
                    clip = made(pipeline, Path(folder), prompt, seed, frames, steps=4 if quick else STEPS)
                    for way, refined in ways(pipeline, clip, scale, strength).items():
                        found.setdefault(way, []).append(measured(refined, clip, scale))
                    told = (f"{' '.join(way)} {each[-1][0].difference:.2f}" for way, each in found.items())
                    print(f"  {scale}, {strength}: {prompt}, seed {seed}: {', '.join(told)}", flush=True)
            for way in found:
                rows.append({"scale": scale, "denoising strength": strength, "frames": frames,
                             **row(way, found[way], found.get((WINDOWS, way[1]), []))})
    return rows


def row(way: Way, found: list[tuple[TemporalError, float]], windowed: list[tuple[TemporalError, float]]) -> dict:
    errors = [error for error, _ in found]
    wins = sum(ours.difference < error.difference for (ours, _), error in zip(windowed, errors))
    return {"refined": way[0], "noise": way[1], "error": float(np.mean([error.difference for error in errors])),
            "PSNR": float(np.mean([error.psnr for error in errors])),
            "change": float(np.mean([change for _, change in found])),
            "wins": f"{wins} of {len(found)}" if way[0] == PICTURES else ""}


def made(pipeline: Pipeline, folder: Path, prompt: str, seed: int, frames: int, steps: int) -> Finished:
    path = folder / f"{prompt}-{seed}-{frames}.apng"
    if not path.exists():
        settings = Settings(enable=True, prompt=prompt, seed=seed, frames=frames, steps=steps)
        with ClipWriter(path, "APNG", settings.fps, metadata=json.dumps({"settings": settings.to_dict()})) as writer:
            for frame in pipeline.render(settings):
                writer.add(frame)
    return Finished.read(path)


def ways(pipeline: Pipeline, clip: Finished, scale: float, strength: float) -> dict[Way, Iterable[np.ndarray]]:
    """The clip's frames, refined in each way when they are asked for."""
    asked = Refinement.of(clip, {"scale": scale, "denoising_strength": strength}, models.find_upscaler)

    def sampled(**more: Any) -> Iterator[np.ndarray]:
        settings = replace(asked.settings, **more)
        return pipeline.render(pipeline.plan(asked.inputs(settings, models.find_lora, "cpu")))

    return {(NOT, ""): asked.frames()} | {
        (how, name): sampled(enable=how == WINDOWS, noise=noise)
        for name, noise in NOISE.items() for how in (WINDOWS, PICTURES)}


def measured(frames: Iterable[np.ndarray], clip: Finished, scale: float) -> tuple[TemporalError, float]:
    """The temporal error, and the mean absolute difference from the enlarged frames."""
    meter, changes = TemporalMeter(), []
    size = tuple(round(side * scale) for side in clip.size)
    for frame, picture in zip(frames, read.pictures(clip.path)):
        meter.add(frame, np.asarray(picture))
        enlarged = np.asarray(read.fitted(picture, size[0], size[1]), np.float32)
        changes.append(float(np.abs(enlarged - frame).mean()))
    error = meter.error
    assert error is not None
    return error, float(np.mean(changes))
