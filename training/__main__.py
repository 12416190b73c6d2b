"""Train the demo model from nothing: `python -m training`. Stop it whenever you like; the same command goes on."""
from __future__ import annotations

import argparse
from pathlib import Path

import torch

from . import export, image, latents, motion, text, vae

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    parser.add_argument("--work", type=Path, default=ROOT / "training-run", help="folder for the state of the run")
    parser.add_argument("--out", type=Path, default=ROOT / "animatediff" / "engine" / "demo", help="folder for the weights")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--clips", type=int, default=5000, help="clips in the training set")
    parser.add_argument("--vae-steps", type=int, default=2800)
    parser.add_argument("--image-steps", type=int, default=4000)
    parser.add_argument("--motion-steps", type=int, default=4000)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    work, seed = options.work, options.seed
    work.mkdir(parents=True, exist_ok=True)

    texts = text.Texts(options.out / "clip")
    autoencoder = vae.fit(work, steps=options.vae_steps, batch=16, seed=seed)
    x, captions = latents.cached(work, autoencoder, clips=options.clips, seed=seed + 1)
    unet, encoder = image.fit(work, x, captions, texts, steps=options.image_steps, batch=64, seed=seed + 2)
    export.image_model(options.out, unet, autoencoder, encoder)
    module = motion.fit(work, x, captions, texts, unet, encoder, steps=options.motion_steps, batch=6, seed=seed + 3)
    export.motion_module(options.out, module)


if __name__ == "__main__":
    main()
