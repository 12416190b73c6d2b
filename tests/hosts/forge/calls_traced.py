"""The jobs whose calls of the UNet are recorded in hosts of the family, and the traces, in a folder for each host."""
from __future__ import annotations

import json
from pathlib import Path

TRACES = Path(__file__).parent / "traces"
SHORT = "a red circle moving right"
LONG = ", ".join([SHORT] * 16)  # two chunks
COMMON = {"prompt": SHORT, "negative_prompt": "", "width": 64, "height": 64, "steps": 2, "seed": 1, "cfg_scale": 5.0,
          "sampler_name": "Euler", "scheduler": "Automatic", "batch_size": 3}
JOBS = {
    "prompt_and_negative": {},
    "cfg_1": {"cfg_scale": 1.0},
    "and": {"prompt": f"{SHORT} AND a blue square :0.5"},
    "unequal_lengths": {"prompt": LONG},
    "ngms": {"s_min_uncond": 100.0},
    "hires": {"enable_hr": True, "hr_scale": 2.0, "hr_upscaler": "Latent", "denoising_strength": 0.6, "hr_cfg": 5.0},
}


def write(host: str, name: str, events: list) -> None:
    (TRACES / host).mkdir(exist_ok=True)
    (TRACES / host / f"{name}.json").write_text("[\n" + ",\n".join(
        f" {json.dumps(event, ensure_ascii=False)}" for event in events) + "\n]\n", "utf-8")


def read(host: str, name: str) -> list:
    return json.loads((TRACES / host / f"{name}.json").read_text("utf-8"))
