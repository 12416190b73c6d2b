"""The same clips from each host that is there: mean difference, of 255, from the WebUI's and from the command line's.

Needs WEBUI_DIR, FORGE_DIR or others, as tests/hosts/webui/webui_host.py says. The demo model, 64×64. Each host makes
the first clip twice, and both must be equal.
"""
from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from animatediff.engine.pipeline import Pipeline
from animatediff.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
TESTS = ROOT / "tests" / "hosts" / "webui"
PROMPT = "a red circle moving right"
ENGINE = "command line"
CLIP = {"video_length": 8, "batch_size": 16}
# Name: settings of the clip, and what else the host is asked for.
CLIPS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "Euler, 5 steps": ({}, {"steps": 5}),
    "Euler, 20 frames in windows": ({"video_length": 20}, {"steps": 5}),
    "DPM++ 2M, 6 steps": ({}, {"steps": 6, "sampler_name": "DPM++ 2M"}),
    "DDIM, 8 steps": ({}, {"steps": 8, "sampler_name": "DDIM"}),
    "Euler a, 8 steps": ({}, {"steps": 8, "sampler_name": "Euler a"}),
    "prompt travel": ({}, {"steps": 6, "prompt": f"0: {PROMPT}\n7: a blue square"}),
    "AND": ({}, {"steps": 6, "prompt": f"{PROMPT} AND white background :0.5"}),
    "negative prompt of two chunks": ({}, {"steps": 6, "negative_prompt": ", ".join(["a blue square"] * 30)}),
    "CFG 1": ({}, {"steps": 6, "cfg_scale": 1.0}),
    "FreeInit, 2 iterations": ({"freeinit_enable": True, "freeinit_iters": 2}, {"steps": 6}),
    "seamless loop": ({"video_length": 20, "closed_loop": "seamless"}, {"steps": 6}),
    "Hires. fix": ({}, {"steps": 6, "enable_hr": True, "hr_scale": 1.5, "hr_upscaler": "Latent",
                        "denoising_strength": 0.6, "hr_cfg": 5.0}),
}
BY_ENGINE = ("Euler, 5 steps", "Euler, 20 frames in windows", "DPM++ 2M, 6 steps", "Euler a, 8 steps", "prompt travel",
             "negative prompt of two chunks", "CFG 1")


def run(quick: bool = False) -> list[dict]:
    sys.path.insert(0, str(TESTS))
    from webui_host import KINDS

    there = [kind for kind in KINDS if kind.folder]
    if not there:
        print("  skipped: set WEBUI_DIR, FORGE_DIR or others to the folders of hosts")
        return []
    names = list(CLIPS)[: 2 if quick else None]
    made = {kind.name: _of_host(kind, names) for kind in there}
    made[ENGINE] = _of_engine([name for name in names if name in BY_ENGINE])
    first = there[0].name
    rows = []
    for kind in there:
        for name in names:
            found = made[kind.name][name]
            row = {"host": kind.name, "clip": name}
            for other in (ENGINE, *([first] if kind.name != first else [])):
                if name in made[other]:
                    row[f"from the {other}'s" if other == ENGINE else f"from {other}'s"] = \
                        float(np.abs(found - made[other][name]).mean())
            rows.append(row)
    return rows


def _of_host(kind: Any, names: list[str]) -> dict[str, np.ndarray]:
    from clip_reading import stills
    from real_host import started

    found = {}
    with tempfile.TemporaryDirectory() as folder, started(kind, Path(folder)) as host:
        for name in names:
            settings, fields = CLIPS[name]
            asked = {"enable": True, "model": "motion.safetensors", "format": ["GIF"], "returns": "frames", **CLIP,
                     **settings}
            fields = {"prompt": PROMPT, "seed": 3, "sampler_name": "Euler", **fields}
            if kind.prefix == "WEBUI":
                fields.pop("hr_cfg", None)
            found[name] = stills(host.txt2img(asked, **fields)).astype(float)
            if name == names[0] and (stills(host.txt2img(asked, **fields)) != found[name]).any():
                raise RuntimeError(f"{kind.name}: {name} is another clip the second time")
    return found


def _of_engine(names: list[str]) -> dict[str, np.ndarray]:
    pipeline, found = Pipeline.load(), {}
    for name in names:
        settings, fields = CLIPS[name]
        asked = Settings(enable=True, prompt=fields.get("prompt", PROMPT), seed=3, steps=fields["steps"],
                         negative=fields.get("negative_prompt", ""), cfg=fields.get("cfg_scale", 5.0),
                         sampler=fields.get("sampler_name", "Euler"), frames=settings.get("video_length", 8),
                         context_length=16)
        found[name] = np.stack(list(pipeline.render(asked))).astype(float)
    return found
