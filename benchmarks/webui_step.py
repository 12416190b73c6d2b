"""One sampler step of a 16-frame clip in the real WebUI: this extension, a plain batch of 16, and the older extension.

Needs WEBUI_DIR, as tests/hosts/webui does, and for the third contender WEBUI_OLDER, the folder of a checkout of
sd-webui-animatediff. One WebUI process runs all three in turn. A step's time is that between the starts of two UNet
calls, reported by the tests' probe, with guidance on (32 rows per call). So it excludes VAE and file writing. SD1.5's
UNet and a v2 motion module have full size and random weights; text encoder and VAE, not timed, are small.
"""
from __future__ import annotations

import os
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch

from benchmarks.timing import Timing, alternate
from benchmarks.unet_step import QUICK, Plan, networks

ROOT = Path(__file__).resolve().parents[1]
TESTS = ROOT / "tests" / "hosts" / "webui"
OLDER = "sd-webui-animatediff"
FRAMES, PIXELS, STEPS = 16, 128, 3
NAMES = {"plain": "a plain batch", "ours": "this extension", "older": OLDER}


def run(quick: bool = False) -> list[dict]:
    if "WEBUI_DIR" not in os.environ:
        print("  skipped: set WEBUI_DIR to the folder of a WebUI, and WEBUI_OLDER to that of the older extension")
        return []
    sys.path.insert(0, str(TESTS))
    from webui_host import Host

    os.environ.setdefault("OMP_NUM_THREADS", str(torch.get_num_threads()))
    older = Path(os.environ["WEBUI_OLDER"]) if "WEBUI_OLDER" in os.environ and not quick else None  # full widths only
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "webui"
        extensions = {"animatediff": ROOT, "animatediff-test-probe": TESTS / "probe"}
        host = Host(data, extensions | ({OLDER: older} if older else {}),
                    {"sd_model_checkpoint": "large.safetensors", "animatediff_model_path": str(data / "motion"),
                     "live_previews_enable": False})
        _write(data, QUICK if quick else Plan())
        try:
            host.start()
            found = _measure(host, quick, older is not None)
        finally:
            host.stop()
    plain = found["plain"].median
    return [{"frames": FRAMES, "pixels": PIXELS, "contender": NAMES[name], "rounds": len(step.seconds),
             "s a step": step.median, "of the plain batch": step.median / plain} for name, step in found.items()]


def _measure(host: Any, quick: bool, with_older: bool) -> dict[str, Timing]:
    """Return the step times of each contender in all rounds except the first, which is a warm-up."""
    seconds: dict[str, list[float]] = defaultdict(list)

    def contender(name: str, **request: Any):
        def call() -> None:
            host.watch()
            host.txt2img(**{"prompt": "a red circle", "steps": STEPS, "width": PIXELS, "height": PIXELS,
                            **request}).expect()
            calls = host.unet_calls()
            if [one["rows"] for one in calls] != [2 * FRAMES] * STEPS:
                raise RuntimeError(f"{name}: the UNet was called in another way: {calls}\n{host.log()[-3000:]}")
            seconds[name].append((calls[-1]["began"] - calls[0]["began"]) / (STEPS - 1))

        return call

    clip = {"enable": True, "model": "v2.safetensors", "video_length": FRAMES, "batch_size": FRAMES, "format": ["PNG"]}
    contenders = {"plain": contender("plain", batch_size=FRAMES), "ours": contender("ours", animatediff=clip)}
    if with_older:
        theirs = {"alwayson_scripts": {f"AnimateDiff ({OLDER})": {"args": [clip]}}}
        contenders["older"] = contender("older", **theirs)
    alternate(contenders, rounds=1 if quick else 5, say="whole requests")
    return {name: Timing(values[1:], None) for name, values in seconds.items()}


def _write(data: Path, plan: Plan) -> None:
    """Write a checkpoint with the plan's UNet and a v2 motion module for it into the WebUI's folders."""
    import yaml
    from safetensors.torch import load_file, save_file
    from transformers import CLIPTextConfig, CLIPTextModel

    from animatediff.engine import keys

    unet, module = networks(plan)
    checkpoints, clip = data / "models" / "Stable-diffusion", data / "clip"
    demo = load_file(checkpoints / "demo.safetensors")
    config = yaml.safe_load((checkpoints / "demo.yaml").read_text())
    source = Path(config["model"]["params"]["cond_stage_config"]["params"]["version"])
    settings = CLIPTextConfig.from_pretrained(source).to_dict() | {
        "hidden_size": plan.text, "intermediate_size": 4 * plan.text, "projection_dim": plan.text}
    torch.manual_seed(0)
    encoder = CLIPTextModel(CLIPTextConfig(**settings))
    encoder.get_input_embeddings().weight.data.normal_(std=0.5)
    encoder.get_submodule("final_layer_norm" if hasattr(encoder, "final_layer_norm") else "text_model.final_layer_norm"
                          ).bias.data.fill_(0.5)  # the WebUI divides by the mean
    clip.mkdir()
    for path in source.iterdir():
        (clip / path.name).write_bytes(path.read_bytes())
    encoder.config.save_pretrained(clip)
    vae = {key: value for key, value in demo.items() if key.startswith("first_stage_model.")}
    state = keys.unet_to_ldm(unet.state_dict()) | keys.text_to_ldm(encoder.state_dict())
    half = {key: value.detach().half().contiguous() for key, value in state.items()}
    save_file(half | vae, checkpoints / "large.safetensors", metadata={"format": "pt"})
    part = config["model"]["params"]
    part["cond_stage_config"]["params"]["version"] = str(clip)
    part["unet_config"]["params"] |= {
        "model_channels": plan.widths[0], "channel_mult": [width // plan.widths[0] for width in plan.widths],
        "context_dim": plan.text}
    (checkpoints / "large.yaml").write_text(yaml.safe_dump(config))
    (data / "motion").mkdir()
    half = {key: value.detach().half().contiguous() for key, value in module.state_dict().items()}
    save_file(half, data / "motion" / "v2.safetensors")
