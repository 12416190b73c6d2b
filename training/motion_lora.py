"""Train the demo model's motion LoRAs: `python -m training.motion_lora [NAME …]`. A stopped run resumes.

The method is that of section 4.3 of the AnimateDiff paper (arXiv:2307.04725). Image model and motion module are frozen,
and low-rank matrices in the motion module's attention are trained on clips with a camera movement. The captions do not
mention the camera, so the LoRA learns the movement that all clips share.
"""
from __future__ import annotations

import argparse
import random
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from animatediff.engine.pipeline import Pipeline
from animatediff.layout import ClipLayout
from animatediff.motion import MotionModule, injected

from .clips import FRAMES, SIZE, Clip, random_clip
from .diffusion import STEPS, alphas_cumprod, draws, half_hidden, weighted_error
from .latents import cached
from .loop import Plan, train

ROOT = Path(__file__).resolve().parent.parent
# Scale of the scene at the ends of a zoom. Scenes fill the picture at scale 1, so zooming in much further would move
# half of the shapes over the edge; a LoRA trained on that makes shapes jump into corners.
SMALL, LARGE = 0.52, 1.14
PAN = 22.0  # pixels of 64, over a clip
# Scale at the beginning and at the end, movement of the scene to the right, and a factor of the stored matrices. The
# factor is above 1 because guidance weakens the effect: it keeps a shape's size and position.
CAMERAS = {"zoom-in": (SMALL, LARGE, 0.0, 1.5), "zoom-out": (LARGE, SMALL, 0.0, 1.5), "pan-left": (1.0, 1.0, PAN, 1.5),
           "pan-right": (1.0, 1.0, -PAN, 1.5)}


def filmed(camera: str, rng: random.Random) -> Clip:
    """Return a random clip with a steady camera movement: the scene is scaled about the centre and shifted."""
    begin, end, pan, _ = CAMERAS[camera]
    clip = random_clip(rng)
    scene, time = clip.scene, torch.linspace(0, 1, len(clip.scene))
    scale = begin * (end / begin) ** time
    x = SIZE / 2 + scale * (scene.x - SIZE / 2) + pan * SIZE / 64 * (time - 0.5)
    y = SIZE / 2 + scale * (scene.y - SIZE / 2)
    return replace(clip, scene=replace(scene, x=x, y=y, radius=scene.radius * scale))


class LowRank(nn.Module):
    """The low-rank change of a linear layer's output; initially zero."""

    def __init__(self, layer: nn.Linear, rank: int):
        super().__init__()
        self.down = nn.Linear(layer.in_features, rank, bias=False)
        self.up = nn.Linear(rank, layer.out_features, bias=False)
        nn.init.normal_(self.down.weight, std=1 / rank)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.up(self.down(x))


def layers(module: MotionModule) -> dict[str, nn.Linear]:
    """Return the linear layers of the motion module's attention by name."""
    return {name: m for name, m in module.named_modules() if isinstance(m, nn.Linear) and ".attention_blocks." in name}


def fit(folder: Path, latents: torch.Tensor, captions: list[str], base: Pipeline, strength: float,
        options: argparse.Namespace) -> dict[str, torch.Tensor]:
    """Train and return the matrices in the original naming.

    strength: factor of the stored matrices. options: the command's options.
    """
    seed, batch = options.seed, 2
    torch.manual_seed(seed)
    places = layers(base.module)
    added = nn.ModuleList(LowRank(layer, options.rank) for layer in places.values())
    schedule, layout = alphas_cumprod("linear"), ClipLayout.contiguous(FRAMES, groups=batch)
    states, empty = base.text.encode(captions, [""])

    def loss_at(step: int) -> dict[str, torch.Tensor]:
        rng = random.Random(seed * 1_000_003 + step)
        clips = torch.tensor([rng.randrange(len(latents)) for _ in range(batch)])
        context = states[clips]
        context[torch.rand(batch) < 0.1] = empty[0]
        t, seen = (each.repeat_interleave(FRAMES) for each in draws(batch, STEPS // 2, STEPS))
        x = latents[clips].float().flatten(0, 1)
        noisy, target = half_hidden(x, schedule[t], seen)
        predicted = base.unet(noisy, t, context.repeat_interleave(FRAMES, 0)).sample
        return {"loss": weighted_error(predicted, target, schedule[t], x, power=0.5)}

    base.unet.requires_grad_(False)
    with ExitStack() as stack:
        for layer, change in zip(places.values(), added):
            hook = layer.register_forward_hook(lambda _, args, out, change=change: out + change(args[0]))
            stack.callback(hook.remove)
        stack.enter_context(injected(base.unet, base.module, lambda rows: layout))
        train("lora", folder, {"lora": added}, added.parameters(), loss_at,
              Plan(options.lora_steps, options.rate, ema=0.99, save_every=100))
    found = {}
    for name, change in zip(places, added):
        attention, layer = name.split(".to_")
        key = f"{attention}.processor.to_{layer.removesuffix('.0')}_lora"
        found[f"{key}.down.weight"] = change.down.weight.detach().half()
        found[f"{key}.up.weight"] = (change.up.weight.detach() * strength).half()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.motion_lora", description=__doc__.replace("`", ""))
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(CAMERAS)}; all by default")
    parser.add_argument("--work", type=Path, default=ROOT / "training-run", help="folder for the state of the run")
    parser.add_argument("--out", type=Path, default=ROOT / "animatediff" / "engine" / "demo" / "lora",
                        help="folder for the weights")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--lora-clips", type=int, default=600, help="clips in the training set")
    parser.add_argument("--lora-steps", type=int, default=900)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--rate", type=float, default=3e-3)
    options = parser.parse_args()
    for name in options.names or CAMERAS:
        if name not in CAMERAS:
            parser.error(f"there is no camera movement {name}; there are {', '.join(CAMERAS)}")
        make(name, options)


def make(name: str, options: argparse.Namespace) -> None:
    """Train one motion LoRA and write its file."""
    folder = options.work / name
    folder.mkdir(parents=True, exist_ok=True)
    base = Pipeline.load(device="cpu", dtype="fp32")
    latents, captions = cached(folder, base.vae, clips=options.lora_clips, seed=options.seed,
                               draw=partial(filmed, name))
    weights = fit(folder, latents, captions, base, CAMERAS[name][3], options)
    options.out.mkdir(parents=True, exist_ok=True)
    save_file(weights, options.out / f"{name}.safetensors", metadata={"format": "pt"})


if __name__ == "__main__":
    main()
