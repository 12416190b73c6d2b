"""Sizes of the measurements on a GPU."""
from __future__ import annotations

import dataclasses
from contextlib import AbstractContextManager

import torch

from animatediff.attribute import attribute
from animatediff.motion import choice
from benchmarks.timing import on_gpu, wall

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclasses.dataclass(frozen=True)
class Plan:
    """Sizes of models and clips, and numbers of rounds. A call has 2 clips, for guidance."""

    widths: tuple[int, ...] = (320, 640, 1280, 1280)  # channels per level of the UNet
    text: int = 768  # width of the text embeddings
    pixels: int = 512  # side of a picture
    frames: tuple[int, ...] = (16, 32)  # per clip
    dtypes: tuple[str, ...] = ("fp16", "bf16")
    rounds: int = 5
    calls: int = 3  # in a round
    device: str = "cuda"
    sdxl_widths: tuple[int, ...] = (320, 640, 1280)
    sdxl_pixels: int = 1024
    vae: tuple[int, ...] = (128, 256, 512, 512)

    def on(self, device: str) -> Plan:
        return dataclasses.replace(self, device=device)

    @property
    def timer(self):
        return on_gpu(self.calls) if self.device == "cuda" else wall

    def places(self) -> list[tuple[int, int, int]]:
        """Return (channels, side of the features, number of sites) for each kind of site of SD1.5 with a v2 module."""
        first, second, third, fourth = self.widths
        side = self.pixels // 8
        return [(first, side, 5), (second, side // 2, 5), (third, side // 4, 5), (fourth, side // 8, 6)]


FULL = Plan()
QUICK = Plan(widths=(32, 32, 64, 64), text=16, pixels=64, frames=(3,), dtypes=("fp32",), rounds=1, calls=1,
             sdxl_widths=(32, 32, 64), sdxl_pixels=64, vae=(32, 32, 32, 32))


def without_kernels() -> AbstractContextManager:
    """Return a context manager in which motion modules use torch's operators, not the Triton kernels."""
    return attribute(choice, "DEVICES", ())
