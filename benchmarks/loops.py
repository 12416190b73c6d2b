"""Loop scores of the demo model's clips, open and with each method of closing them.

*largest step* is the largest step inside the clip, relative to the median step. It shows clips that close well but
break elsewhere.
"""
from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from animatediff.engine.pipeline import Pipeline
from animatediff.media.loop import LEAST_STEP, LoopMeter
from animatediff.settings import Settings

PROMPTS = {
    "spin": "a blue star spinning on a black background",
    "bounce": "a green circle bouncing",
    "grow and shrink": "0: a small red circle at rest\n{middle}: a big red circle at rest",
    "rest": "a red square at rest",
}
WAYS = {
    "open": {},
    "seamless": {"closed_loop": "seamless"},
    "seamless, overlap 8": {"closed_loop": "seamless", "overlap": 8},
    "open, repaired": {"seam_repair": 1},
    "seamless, repaired": {"closed_loop": "seamless", "seam_repair": 0.5},
}


def run(quick: bool = False, prompts: Iterable[str] = PROMPTS, lengths: Iterable[int] = (32, 16)) -> list[dict]:
    pipeline = Pipeline.load()
    seeds = [1] if quick else [1, 2]
    ways = {"open": WAYS["open"], "seamless": WAYS["seamless"]} if quick else WAYS
    rows = []
    for frames in ([16] if quick else lengths):
        for name in (["rest"] if quick else prompts):
            for way, more in ways.items():
                found = [measure(pipeline, name, seed, frames=frames, **more) for seed in seeds]
                rows.append({"frames": frames, "prompt": name, "clips": len(seeds), "way": way,
                             **{key: float(np.mean([one[key] for one in found])) for key in found[0]},
                             "scores": ", ".join(f"{one['score']:.2f}" for one in found)})
                print(f"  {rows[-1]}", flush=True)
    return rows


def measure(pipeline: Pipeline, name: str, seed: int, **more) -> dict[str, float]:
    prompt = PROMPTS[name].format(middle=more["frames"] // 2)
    meter, before, largest = LoopMeter(), None, 0.0
    for frame in pipeline.render(Settings(enable=True, prompt=prompt, seed=seed, **more)):
        meter.add(frame)
        if before is not None:
            largest = max(largest, float(abs(frame.astype(float) - before).mean()))
        before = frame
    score = meter.score
    return {"score": score.value, "seam": score.seam, "median step": score.step,
            "largest step": largest / max(score.step, LEAST_STEP)}
