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
ENGINE = "the command line"
CLIP = {"frames": 8, "context_length": 16}
# Name: settings of the clip, and what else the host is asked for.
CLIPS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "Euler, 5 steps": ({}, {"steps": 5}),
    "Euler, 20 frames in windows": ({"frames": 20}, {"steps": 5}),
    "DPM++ 2M, 6 steps": ({}, {"steps": 6, "sampler_name": "DPM++ 2M"}),
    "Euler a, 8 steps": ({}, {"steps": 8, "sampler_name": "Euler a"}),
    "prompt travel": ({}, {"steps": 6, "prompt": f"0: {PROMPT}\n7: a blue square"}),
    "negative prompt of two chunks": ({}, {"steps": 6, "negative_prompt": ", ".join(["a blue square"] * 30)}),
    "CFG 1": ({}, {"steps": 6, "cfg_scale": 1.0}),
    "FreeInit, 2 iterations": ({"freeinit_iterations": 2}, {"steps": 6}),
    "seamless loop, 20 frames": ({"frames": 20, "closed_loop": "seamless"}, {"steps": 6}),
    "speed draft, 10 steps": ({"speed": "draft"}, {"steps": 10}),
    "motion scale 0.5": ({"motion_scale": "0.5"}, {"steps": 6}),
    "DDIM, 8 steps": ({}, {"steps": 8, "sampler_name": "DDIM"}),
    "AND": ({}, {"steps": 6, "prompt": f"{PROMPT} AND white background :0.5"}),
    "Hires. fix": ({}, {"steps": 6, "enable_hr": True, "hr_scale": 1.5, "hr_upscaler": "Latent",
                        "denoising_strength": 0.6, "hr_cfg": 5.0}),
}
# The command line has no AND and no Hires. fix, and its DDIM starts at the schedule's end.
NOT_BY_ENGINE = ("DDIM, 8 steps", "AND", "Hires. fix")


def run(quick: bool = False) -> list[dict]:
    sys.path.insert(0, str(TESTS))
    from webui_host import KINDS

    there = [kind for kind in KINDS if kind.folder]
    if not there:
        print("  skipped: set WEBUI_DIR, FORGE_DIR or others to the folders of hosts")
        return []
    names = list(CLIPS)[: 2 if quick else None]
    made = {kind.name: _of_host(kind, names) for kind in there}
    made[ENGINE] = _of_engine([name for name in names if name not in NOT_BY_ENGINE])
    sides = [(kind.name, ENGINE) for kind in there] + [(kind.name, there[0].name) for kind in there[1:]]
    return [{"clip": name} | {f"{one} from {other}": _difference(made, name, one, other) for one, other in sides}
            for name in names]


def _difference(made: dict[str, dict[str, np.ndarray]], name: str, one: str, other: str) -> float | str:
    """"" where the other cannot make this clip."""
    if name not in made[other]:
        return ""
    return float(np.abs(made[one][name] - made[other][name]).mean())


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
                         sampler=fields.get("sampler_name", "Euler"), **{**CLIP, **settings})
        found[name] = np.stack(list(pipeline.render(asked))).astype(float)
    return found
