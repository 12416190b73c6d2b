"""One UNet step of a clip: our injected motion module against the plain UNet and diffusers' UNetMotionModel.

SD1.5 at full size with a v2 module and random weights, on the CPU, 16 frames without guidance. All three share the same
tensors, so that the weights are in memory once. `benchmarks/gpu/step.py` is the same on a GPU.
"""
from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before anything imports the hub's client

import torch
from torch import Tensor, nn

from animatediff.layout import ClipLayout
from animatediff.motion import FAMILIES, MotionModule, build, injected
from animatediff.motion.layers import PositionalEncoding, sinusoids
from animatediff.motion.naming import to_diffusers
from animatediff.unet.prompts_once import prompts_once
from benchmarks.motion_part import DTYPES, FRAMES
from benchmarks.timing import alternate

TIMESTEP, TOKENS = 321, 77


@dataclasses.dataclass(frozen=True)
class Plan:
    """Sizes of the model and the clip, and the number of rounds."""

    widths: tuple[int, ...] = (320, 640, 1280, 1280)  # channels per level
    text: int = 768  # width of the text embeddings
    pixels: tuple[int, ...] = (128, 256)  # sides of the pictures
    rounds: int = 5
    frames: int = FRAMES
    dtypes: tuple[str, ...] = ("fp32", "bf16")


QUICK = Plan(widths=(32, 64, 64, 64), text=32, pixels=(64, 128), rounds=1)


def run(quick: bool = False) -> list[dict]:
    return measure(QUICK if quick else Plan())


def measure(plan: Plan) -> list[dict]:
    print("  building the networks …", flush=True)
    unet, module = networks(plan)
    rows = []
    for name in plan.dtypes:
        unet.to(DTYPES[name]), module.to(DTYPES[name])
        other = same_in_diffusers(unet, module)
        rows += [_case(unet, module, other, plan, name, pixels) for pixels in plan.pixels]
        del other  # frees its tensors before the next dtype
    return rows


@torch.no_grad()
def _case(unet, module: MotionModule, other, plan: Plan, dtype: str, pixels: int) -> dict:
    random, frames = torch.Generator().manual_seed(pixels), plan.frames
    x = torch.randn(frames, 4, pixels // 8, pixels // 8, generator=random).to(DTYPES[dtype])
    text = torch.randn(1, TOKENS, plan.text, generator=random).to(DTYPES[dtype]).repeat_interleave(frames, 0)
    video = x[None].transpose(1, 2)

    def plain() -> Tensor:
        return unet(x, TIMESTEP, text).sample

    def ours() -> Tensor:
        with prompts_once(unet), injected(unet, module, lambda rows: ClipLayout.contiguous(frames)):
            return plain()

    def matched() -> Tensor:
        with norm_over_frames(module):
            return ours()

    def diffusers() -> Tensor:
        return other(video, TIMESTEP, text).sample.transpose(1, 2).reshape(x.shape)

    found = alternate({"plain": plain, "ours": ours, "diffusers": diffusers}, rounds=plan.rounds,
                      warm_up={"ours": matched}, say=f"{frames} frames, {pixels} pixels {dtype}")
    first = {name: timing.first.float() for name, timing in found.items()}
    times = {name: timing.median for name, timing in found.items()}

    def apart(a: str, b: str) -> float:
        return (first[a] - first[b]).abs().max().item()

    return {
        "frames": frames,
        "pixels": pixels,
        "dtype": dtype,
        "rounds": len(found["ours"].seconds),
        "plain s": times["plain"],
        "ours s": times["ours"],
        "diffusers s": times["diffusers"],
        "ours/plain": times["ours"] / times["plain"],
        "diffusers/plain": times["diffusers"] / times["plain"],
        "diffusers/ours": times["diffusers"] / times["ours"],
        "largest difference": f"{apart('ours', 'diffusers'):.1e}",
        "largest value": f"{first['diffusers'].abs().max().item():.1e}",
        "change by motion": f"{apart('diffusers', 'plain'):.1e}",
    }


@contextmanager
def norm_over_frames(module: MotionModule) -> Iterator[None]:
    """Context manager in which the module's GroupNorm is over all frames, as in diffusers; the original v2's is not."""
    sites = [site.temporal_transformer for site in module.sites().values()]
    before = [site.over_frames for site in sites]
    try:
        for site in sites:
            site.over_frames = True
        yield
    finally:
        for site, over_frames in zip(sites, before):
            site.over_frames = over_frames


def networks(plan: Plan, device: str = "cpu", dtype: torch.dtype = torch.float32) -> tuple[nn.Module, MotionModule]:
    """Return a UNet and a motion module with random weights, built without torch's slow initialisation."""
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        unet = UNet2DConditionModel(**_unet_config(plan))
    return filled(unet, device, dtype), motion_module(plan, device, dtype)


def motion_module(plan: Plan, device: str = "cpu", dtype: torch.dtype = torch.float32) -> MotionModule:
    """Return a motion module with random weights."""
    with torch.device("meta"):
        module = build(plan.widths, FAMILIES["v2"])
    return filled(module, device, dtype)


def _unet_config(plan: Plan) -> dict:
    return dict(block_out_channels=plan.widths, cross_attention_dim=plan.text, attention_head_dim=8, layers_per_block=2)


def filled(network: nn.Module, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Any:
    """Fill a network with random weights that keep activations near 1; norm weights differ from 1. Return it."""
    random = torch.Generator(device).manual_seed(4)
    for part in network.modules():
        if isinstance(part, PositionalEncoding):
            part.pe = sinusoids(*part.pe.shape[1:]).to(device, dtype)
        for name, old in part._parameters.items():
            if old is None:
                continue
            new = torch.empty(old.shape, dtype=dtype, device=device)
            if old.ndim > 1:
                new.normal_(0, old[0].numel() ** -0.5, generator=random)
            else:
                new.normal_(1.0 if name == "weight" else 0.0, 0.1, generator=random)
            part._parameters[name] = nn.Parameter(new, requires_grad=False)
    return network.eval()


def same_in_diffusers(unet: nn.Module, module: MotionModule) -> nn.Module:
    """Return a UNetMotionModel that shares the tensors of `unet` and `module`."""
    from diffusers import MotionAdapter, UNet2DConditionModel, UNetMotionModel

    with torch.device("meta"):
        adapter = MotionAdapter(
            block_out_channels=module.widths, motion_max_seq_length=module.max_frames, use_motion_mid_block=True,
            motion_num_attention_heads=module.heads,
        )  # fmt: skip
        model = UNetMotionModel.from_unet2d(UNet2DConditionModel(**unet.config), adapter, load_weights=False)
    model.load_state_dict(unet.state_dict() | to_diffusers(module.state_dict()), assign=True)
    assert not any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers()))
    return model.eval().requires_grad_(False)
