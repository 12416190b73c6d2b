"""Models, motion LoRAs and pictures that the rows of the table name, made from fixed seeds."""
from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import lora_files_by_hand as by_hand
import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from tiny_models import WIDTHS, write_checkpoint, write_module

SIZE = (64, 64)


def write(folder: Path) -> SimpleNamespace:
    """`.checkpoint`: an image model for the command line; `.modules`: the folder of motion modules and motion LoRAs;
    `.pictures`: that of pictures, masks and a video."""
    modules, pictures = folder / "modules", folder / "pictures"
    for name, family, more in (
        ("moving.safetensors", "v2", {}), ("short.safetensors", "v2", {"frames": 4}), ("v1.safetensors", "v1", {}),
        ("v3.ckpt", "v3", {}), ("lcm.safetensors", "AnimateLCM", {}),
    ):  # fmt: skip
        write_module(modules / name, family, **more)
    save_file(by_hand.original(by_hand.pairs(WIDTHS)), modules / "zoom.safetensors")
    torch.save({"state_dict": by_hand.original(by_hand.pairs(WIDTHS, seed=9), "module.")}, modules / "pan.ckpt")
    _write_pictures(pictures)
    return SimpleNamespace(checkpoint=write_checkpoint(folder / "image"), modules=modules, pictures=pictures)


def _write_pictures(folder: Path) -> None:
    """one.png, other.png, moving/0.png to 4.png, video.gif of 7 frames, mask.png, mask.gif of 3 frames."""
    (folder / "moving").mkdir(parents=True)
    colours = np.random.default_rng(0)

    def picture(size: tuple[int, int] = SIZE) -> Image.Image:
        return Image.fromarray(colours.integers(0, 256, (8, 8, 3), np.uint8)).resize(size)

    for name in ("one.png", "other.png", *(f"moving/{i}.png" for i in range(5))):
        picture().save(folder / name)
    frames = [picture((96, 64)) for _ in range(7)]
    frames[0].save(folder / "video.gif", save_all=True, append_images=frames[1:], duration=100)
    masks = [Image.linear_gradient("L").rotate(angle).resize(SIZE) for angle in (0, 90, 180)]
    masks[0].save(folder / "mask.png")
    masks[0].save(folder / "mask.gif", save_all=True, append_images=masks[1:], duration=100)
