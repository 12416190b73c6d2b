"""Fixtures: tiny UNets in both layouts, and tiny motion modules in which every weight affects the output."""

from __future__ import annotations

import sys
import types

import pytest
import torch
from torch import nn

from animatediff.layout import ClipLayout
from animatediff.motion import FAMILIES, build, transformer

WIDTHS = {"SD1.5": (32, 64, 64, 64), "SDXL": (32, 64, 96)}
TEXT = 24


def randomise(module: nn.Module, seed: int = 0, scale: float = 1.0) -> nn.Module:
    """Set random weights that keep activations near 1, and norm weights and biases that differ from their defaults."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in module.named_parameters():
            noise = torch.randn(p.shape, generator=random) * scale
            if p.ndim > 1:
                p.copy_(noise / p[0].numel() ** 0.5)
            else:
                p.copy_(1 + 0.3 * noise if name.endswith("weight") else 0.3 * noise)
    return module


@pytest.fixture(params=["in tiles", "whole"])
def tiling(request, monkeypatch):
    """Run the motion module in tiles, as on a CPU, or whole, as on a GPU."""
    if request.param == "whole":
        monkeypatch.setattr(transformer, "TILED", ())


@pytest.fixture
def make_module():
    """Return make_module(family, frames=None, widths=None, seed=0): a tiny module with random weights in eval mode."""

    def make(family, frames=None, widths=None, seed=0):
        family = FAMILIES[family] if isinstance(family, str) else family
        module = build(widths or WIDTHS[family.base], family, frames=frames, name=f"tiny {family.name}")
        return randomise(module, seed).eval().requires_grad_(False)

    return make


def diffusers_unet(base: str, seed: int = 1):
    diffusers = pytest.importorskip("diffusers")
    levels = len(WIDTHS[base])
    plain = {"SD1.5": levels - 1, "SDXL": 0}[base]  # the level without attention
    kinds = ["CrossAttnDownBlock2D"] * levels
    kinds[plain] = "DownBlock2D"
    ups = [kind.replace("Down", "Up") for kind in reversed(kinds)]
    unet = diffusers.UNet2DConditionModel(
        block_out_channels=WIDTHS[base], down_block_types=kinds, up_block_types=ups, cross_attention_dim=TEXT,
        attention_head_dim=4, sample_size=8,
    )  # fmt: skip
    return randomise(unet, seed).eval().requires_grad_(False)


def ldm_unet(base: str, seed: int = 1):
    """Return the UNet of the original Stable Diffusion code, with the weights of `diffusers_unet(base, seed)`."""
    pytest.importorskip("ldm.modules.diffusionmodules.openaimodel", reason="needs stable-diffusion-sdkit")
    from ldm.modules.diffusionmodules.openaimodel import UNetModel

    from animatediff.engine.keys import UNET, unet_to_ldm

    # UNetModel imports omegaconf only for an isinstance check, so a stub is enough.
    if "omegaconf" not in sys.modules:
        stub, lists = types.ModuleType("omegaconf"), types.ModuleType("omegaconf.listconfig")
        lists.ListConfig = stub.listconfig = type("ListConfig", (), {})
        sys.modules.update({"omegaconf": stub, "omegaconf.listconfig": lists})
    widths = WIDTHS[base]
    unet = UNetModel(
        image_size=8, in_channels=4, out_channels=4, model_channels=widths[0], num_res_blocks=2,
        attention_resolutions={"SD1.5": [4, 2, 1], "SDXL": [4, 2]}[base], channel_mult=[w // widths[0] for w in widths],
        num_heads=4, use_spatial_transformer=True, transformer_depth=1, context_dim=TEXT,
        use_checkpoint=False, legacy=False,
    )  # fmt: skip
    weights = unet_to_ldm(diffusers_unet(base, seed).state_dict())
    unet.load_state_dict({key.removeprefix(UNET): value for key, value in weights.items()})
    return unet.eval().requires_grad_(False)


class Host:
    """A tiny UNet in one of the layouts, called in the same way for both."""

    def __init__(self, layout: str, base: str):
        self.layout, self.base = layout, base
        self.unet = {"diffusers": diffusers_unet, "ldm": ldm_unet}[layout](base)

    def __call__(self, x, text, t=321):
        with torch.no_grad():
            if self.layout == "ldm":
                return self.unet(x, torch.full((len(x),), t), context=text)
            return self.unet(x, t, text).sample


HOSTS = [(layout, base) for layout in ("diffusers", "ldm") for base in WIDTHS]


@pytest.fixture(params=HOSTS, ids=lambda p: " ".join(p))
def host(request):
    return Host(*request.param)


@pytest.fixture
def make_host():
    return Host


@pytest.fixture
def inputs():
    """Return inputs(rows, size=8): latents [rows 4 size size] and text [rows 5 TEXT] that differ from row to row."""

    def make(rows, size=8):
        random = torch.Generator().manual_seed(2)
        return torch.randn(rows, 4, size, size, generator=random), torch.randn(rows, 5, TEXT, generator=random)

    return make


@pytest.fixture
def clips_of():
    """Return clips_of(frames): a layout_of for batches of whole clips of that length."""
    return lambda frames: lambda rows: ClipLayout.contiguous(frames, rows // frames)
