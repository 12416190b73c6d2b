"""The registry of motion module families and their detection from tensor names and shapes.

A new family is one entry in `_FAMILIES`. Entries are tried in order; the first one that matches is used. Files that are
not motion modules are listed in `weights.kinds`; error messages name their kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from animatediff.errors import ModelError
from animatediff.weights.boundary import reading
from animatediff.weights.evidence import Evidence, Test, has, mid, positions, sd15, sdxl
from animatediff.weights.kinds import CHECKPOINT, DOMAIN_ADAPTER, MOTION_LORA, MOTION_MODULE, kind_of
from animatediff.weights.naming import unwrap


@dataclass(frozen=True)
class BetaSchedule:
    """The noise schedule that a family was trained with."""

    kind: str  # "linear" or "scaled_linear" (linear in the square root)
    start: float
    end: float
    steps: int = 1000
    lcm_steps: int | None = None  # number of steps that a latent consistency model was distilled on

    def betas(self) -> Tensor:
        """Return the betas, float64 [steps]."""
        power = {"linear": 1.0, "scaled_linear": 2.0}[self.kind]
        ends = self.start ** (1 / power), self.end ** (1 / power)
        return torch.linspace(*ends, self.steps, dtype=torch.float64) ** power

    def alphas_cumprod(self) -> Tensor:
        """Return the cumulative alphas, float64 [steps], from nearly 1 (clean) to nearly 0 (noise)."""
        return torch.cumprod(1 - self.betas(), 0)


@dataclass(frozen=True)
class Family:
    """A family of motion modules.

    The `*_norm_over_frames` flags follow the training code. If set, a GroupNorm takes its statistics over C/32 x frames
    x H x W within one clip and role; otherwise over each frame separately. SpatialTransformers always normalise each
    frame separately.
    """

    name: str
    base: str  # "SD1.5" or "SDXL"
    betas: BetaSchedule
    matches: Test = field(repr=False, compare=False)
    max_frames: int = 32  # positions of the published weights; a file's own number takes precedence
    best_frames: int = 16  # window length in training
    has_mid: bool = False
    stores_pe: bool = True  # False for AnimateLCM, whose files hold no positional encoding; it is sinusoidal
    module_norm_over_frames: bool = False
    resnet_norm_over_frames: bool = False
    out_norm_over_frames: bool = False

    @property
    def levels(self) -> int:
        """Number of levels of the UNet."""
        return {"SD1.5": 4, "SDXL": 3}[self.base]


# Remedies in error messages for files that are not motion modules, by kind.
_REMEDY = "Pick a motion module, such as v3_sd15_mm.ckpt for SD1.5 or hsxl_temporal_layers.safetensors for SDXL."
_LATER = "It is not supported yet: pick a plain motion module, such as v3_sd15_mm.ckpt."
_AS_A_LORA = "Give it as a motion LoRA, and a motion module, mostly a v2 one, as the motion module."
_AS_THE_CHECKPOINT = "Pick it as the checkpoint, and a motion module as the motion module."
_AS_CONTROLNET = "Put it into models/ControlNet of a WebUI, and pick v3_sd15_mm.ckpt as the motion module."
_REMEDIES = {MOTION_LORA: _AS_A_LORA, DOMAIN_ADAPTER: _AS_A_LORA, CHECKPOINT: _AS_THE_CHECKPOINT,
             "SDXL checkpoint": _AS_THE_CHECKPOINT, "SparseCtrl scribble": _AS_CONTROLNET,
             "SparseCtrl RGB": _AS_CONTROLNET}

_SD15 = BetaSchedule("linear", 0.00085, 0.012)
_LCM = BetaSchedule("linear", 0.00085, 0.012, lcm_steps=100)
_SDXL = BetaSchedule("scaled_linear", 0.00085, 0.020)
_HOTSHOT = BetaSchedule("scaled_linear", 0.00085, 0.012)

_FAMILIES: tuple[Family, ...] = (
    # Order matters: SDXL before SD1.5, tests of key names before tests of lengths.
    Family(
        "HotShot-XL",
        "SDXL",
        _HOTSHOT,
        sdxl & ~mid & (has("pos_encoder.positional_encoding") | positions(lambda n: n <= 24)),
        max_frames=24,
        best_frames=8,
        resnet_norm_over_frames=True,
        out_norm_over_frames=True,
    ),
    Family("AnimateDiff-SDXL", "SDXL", _SDXL, sdxl & ~mid & positions(lambda n: n > 24), module_norm_over_frames=True),
    Family("AnimateLCM", "SD1.5", _LCM, sd15 & ~positions(bool), max_frames=64, has_mid=True, stores_pe=False),
    Family("LongAnimateDiff", "SD1.5", _SD15, sd15 & mid & positions(lambda n: n > 32), 64, 32, has_mid=True),
    Family("v2", "SD1.5", _SD15, sd15 & mid, has_mid=True),
    Family("v3", "SD1.5", _SD15, sd15 & positions(lambda n: n > 24)),
    Family("v1", "SD1.5", _SD15, sd15, max_frames=24, resnet_norm_over_frames=True, out_norm_over_frames=True),
)

FAMILIES: dict[str, Family] = {family.name: family for family in _FAMILIES}


def detect(state: Mapping[str, Any], name: str = "this file") -> Family:
    """Return the family of a state dict in any naming, with or without wrapper keys.

    Only keys and shapes are used, so tensors may be on the meta device. Raises ModelError with the kind of file if it
    is not a motion module.
    """
    with reading(name):
        return detect_shapes({key: tuple(tensor.shape) for key, tensor in unwrap(state).items()}, name)


def detect_shapes(shapes: Mapping[str, tuple[int, ...]], name: str = "this file") -> Family:
    """Return the family from a mapping of keys to shapes; see `detect`."""
    kind = kind_of(shapes)
    if kind is None:
        raise ModelError(
            f"{name} is not a motion module: none of its {len(shapes)} tensors belongs to a temporal layer",
            remedy=_REMEDY,
        )
    if kind.name != MOTION_MODULE:
        what = kind.phrase if kind.later else f"{kind.phrase}, not a motion module"
        raise ModelError(f"{name} is {what}", remedy=_REMEDIES.get(kind.name, _LATER if kind.later else _REMEDY))
    evidence = Evidence(shapes)
    family = next((family for family in _FAMILIES if family.matches(evidence)), None)
    if family is not None:
        return replace(family, has_mid=mid(evidence))
    raise ModelError(
        f"{name} has temporal layers for {evidence.levels} levels of a UNet, positions for {evidence.positions} frames "
        f"and {'a' if mid(evidence) else 'no'} middle block: no known family of motion modules has these",
        remedy="If the download is complete, report it with a link to the file.",
    )
