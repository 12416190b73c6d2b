"""One sampler step of a 16-frame clip in each real host: this extension, a plain batch of 16, and the older extension.

Needs WEBUI_DIR, FORGE_DIR or others, as tests/hosts/webui/webui_host.py says, and for the third contender, in the WebUI
alone, WEBUI_OLDER, the folder of a checkout of sd-webui-animatediff. One process of the host runs all contenders in
turn. A step's time is that between the starts of two UNet calls, reported by the tests' probe, with guidance on (32
rows per call). So it excludes VAE and file writing. SD1.5's UNet and a motion module have full size and random weights.
Text encoder and VAE, not timed, are small in the WebUI; hosts of Forge's family know only their full size.
"""
from __future__ import annotations

import os
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from animatediff.motion import FAMILIES, build
from benchmarks.timing import Timing, alternate
from benchmarks.unet_step import QUICK, Plan, filled, networks

ROOT = Path(__file__).resolve().parents[1]
TESTS = ROOT / "tests" / "hosts" / "webui"
OLDER = "sd-webui-animatediff"
FRAMES, STEPS = 16, 4
NAMES = {"plain": "a plain batch", "ours": "this extension", "older": OLDER}


@dataclass(frozen=True)
class Case:
    """What a host is measured with."""

    pixels: int
    module: str  # family of the motion module
    rounds: int
    whole: bool  # whether text encoder and VAE have their full size


WEBUI, FAMILY = Case(128, "v2", 5, whole=False), Case(64, "v3", 3, whole=True)


def run(quick: bool = False) -> list[dict]:
    sys.path.insert(0, str(TESTS))
    from webui_host import A1111, KINDS

    there = [kind for kind in KINDS if kind.folder and (kind is A1111 or not quick)]  # the others need full widths
    if not there:
        print("  skipped: set WEBUI_DIR, FORGE_DIR or others to the folders of hosts, and WEBUI_OLDER to that of the "
              "older extension")
    return [row for kind in there for row in _of_host(kind, WEBUI if kind is A1111 else FAMILY, quick)]


def _of_host(kind: Any, case: Case, quick: bool) -> list[dict]:
    from webui_host import A1111, Host

    os.environ.setdefault("OMP_NUM_THREADS", str(torch.get_num_threads()))
    with_older = kind is A1111 and "WEBUI_OLDER" in os.environ and not quick  # full widths only
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "host"
        extensions = {"animatediff": ROOT, "animatediff-test-probe": TESTS / "probe"}
        host = Host(data, extensions | ({OLDER: Path(os.environ["WEBUI_OLDER"])} if with_older else {}),
                    {"sd_model_checkpoint": "large.safetensors", "animatediff_model_path": str(data / "motion"),
                     "live_previews_enable": False}, kind=kind)
        _write(data, QUICK if quick else Plan(), case)
        try:
            host.start()
            found = _measure(host, case, 1 if quick else case.rounds, with_older)
        finally:
            host.stop()
    plain = found["plain"].median
    return [{"host": kind.name, "frames": FRAMES, "pixels": case.pixels, "module": case.module,
             "contender": NAMES[name], "rounds": len(step.seconds), "s a step": step.median,
             "of the plain batch": step.median / plain} for name, step in found.items()]


def _measure(host: Any, case: Case, rounds: int, with_older: bool) -> dict[str, Timing]:
    """Return the step times of each contender in all rounds except the first, which is a warm-up."""
    seconds: dict[str, list[float]] = defaultdict(list)

    def contender(name: str, **request: Any):
        def call() -> None:
            host.watch()
            host.txt2img(**{"prompt": "a red circle", "steps": STEPS, "sampler_name": "Euler", "width": case.pixels,
                            "height": case.pixels, **request}).expect()
            calls = host.unet_calls()
            if [one["rows"] for one in calls] != [2 * FRAMES] * STEPS:
                raise RuntimeError(f"{name}: the UNet was called in another way: {calls}\n{host.log()[-3000:]}")
            # The first step also prepares what all of them use, such as packed weights.
            seconds[name].append((calls[-1]["began"] - calls[1]["began"]) / (STEPS - 2))

        return call

    clip = {"enable": True, "model": "motion.safetensors", "video_length": FRAMES, "batch_size": FRAMES,
            "format": ["PNG"]}
    contenders = {"plain": contender("plain", batch_size=FRAMES), "ours": contender("ours", animatediff=clip)}
    if with_older:
        theirs = {"alwayson_scripts": {f"AnimateDiff ({OLDER})": {"args": [clip]}}}
        contenders["older"] = contender("older", **theirs)
    alternate(contenders, rounds=rounds, say="whole requests")
    return {name: Timing(values[1:], None) for name, values in seconds.items()}


def _write(data: Path, plan: Plan, case: Case) -> None:
    """Write a checkpoint with the plan's UNet, and a motion module for it, into the host's folders."""
    from animatediff.engine import keys

    unet, module = networks(plan)
    if case.module != "v2":
        with torch.device("meta"):
            module = build(plan.widths, FAMILIES[case.module])
        filled(module)
    motion = data / "motion"
    motion.mkdir()
    _save(module.state_dict(), motion / "motion.safetensors")
    rest = _whole_rest() if case.whole else _small_rest(data, plan)
    _save(keys.unet_to_ldm(unet.state_dict()) | rest, data / "models" / "Stable-diffusion" / "large.safetensors")


def _save(state: Any, path: Path) -> None:
    """Write tensors in fp16; those of the small VAE stay as they are."""
    from safetensors.torch import save_file

    save_file({key: (value if key.startswith("first_stage_model.") else value.detach().half()).contiguous()
               for key, value in state.items()}, path, metadata={"format": "pt"})


def _whole_rest() -> dict[str, Any]:
    """Return SD1.5's text encoder and VAE with random weights, in the names of checkpoints."""
    from diffusers import AutoencoderKL
    from transformers import CLIPTextConfig, CLIPTextModel

    from animatediff.engine import keys

    torch.manual_seed(0)
    encoder = CLIPTextModel(CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_attention_heads=12))
    sides = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    vae = AutoencoderKL(block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4, **sides)
    return keys.text_to_ldm(encoder.state_dict()) | keys.vae_to_ldm(vae.state_dict())


def _small_rest(data: Path, plan: Plan) -> dict[str, Any]:
    """Return a small text encoder and the demo's VAE, in the names of checkpoints. Write large.yaml with their sizes.
    """
    import yaml
    from safetensors.torch import load_file
    from transformers import CLIPTextConfig, CLIPTextModel

    from animatediff.engine import keys

    checkpoints, clip = data / "models" / "Stable-diffusion", data / "clip"
    demo = load_file(checkpoints / "demo.safetensors")
    config = yaml.safe_load((checkpoints / "demo.yaml").read_text())
    part = config["model"]["params"]
    source = Path(part["cond_stage_config"]["params"]["version"])
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
    part["cond_stage_config"]["params"]["version"] = str(clip)
    part["unet_config"]["params"] |= {
        "model_channels": plan.widths[0], "channel_mult": [width // plan.widths[0] for width in plan.widths],
        "context_dim": plan.text}
    (checkpoints / "large.yaml").write_text(yaml.safe_dump(config))
    vae = {key: value for key, value in demo.items() if key.startswith("first_stage_model.")}
    return vae | keys.text_to_ldm(encoder.state_dict())
