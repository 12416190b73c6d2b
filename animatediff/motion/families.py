"""The registry of motion module families: what each is, and the evidence in the tensors that tells it from the others.

A new family is one entry in `_FAMILIES`. Entries are tried in order; the first whose evidence holds is it. Files that
are something else are kinds of `weights.kinds`, and refused by their name.
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
    """Noise schedule a family was trained with. `kind` is "linear" or "scaled_linear" (linear in the square root)."""

    kind: str
    start: float
    end: float
    steps: int = 1000
    lcm_steps: int | None = None  # the steps that a latent consistency model was distilled on

    def betas(self) -> Tensor:
        """float64 [steps]."""
        power = {"linear": 1.0, "scaled_linear": 2.0}[self.kind]
        ends = self.start ** (1 / power), self.end ** (1 / power)
        return torch.linspace(*ends, self.steps, dtype=torch.float64) ** power

    def alphas_cumprod(self) -> Tensor:
        """float64 [steps], from nearly 1 (clean) to nearly 0 (noise)."""
        return torch.cumprod(1 - self.betas(), 0)


@dataclass(frozen=True)
class Family:
    """One kind of motion module.

    GroupNorm semantics are those of the training code: "over frames" means statistics of C/32 x frames x H x W
    within one clip and role, otherwise each frame on its own. SpatialTransformers always take each frame on its own.
    """

    name: str
    base: str  # "SD1.5" or "SDXL"
    betas: BetaSchedule
    told_by: Test = field(repr=False, compare=False)
    max_frames: int = 32  # positions of the published weights; a file's own number counts
    best_frames: int = 16  # window length it was trained on
    has_mid: bool = False
    stores_pe: bool = True  # AnimateLCM's files hold no positional encoding: it is the sinusoidal one
    module_norm_over_frames: bool = False
    resnet_norm_over_frames: bool = False
    out_norm_over_frames: bool = False

    @property
    def levels(self) -> int:
        """Levels of the UNet it belongs to."""
        return {"SD1.5": 4, "SDXL": 3}[self.base]


# What to do with a file that is no motion module, by its kind.
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
    # SDXL before SD1.5, native naming before lengths.
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
    """The family of a state dict in any naming, wrapped or not; ModelError says what else it is.

    Only keys and shapes are looked at, so tensors on the meta device serve.
    """
    with reading(name):
        return detect_shapes({key: tuple(tensor.shape) for key, tensor in unwrap(state).items()}, name)


def detect_shapes(shapes: Mapping[str, tuple[int, ...]], name: str = "this file") -> Family:
    """`detect` for shapes by key."""
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
    family = next((family for family in _FAMILIES if family.told_by(evidence)), None)
    if family is not None:
        return replace(family, has_mid=mid(evidence))
    raise ModelError(
        f"{name} has temporal layers for {evidence.levels} levels of a UNet, positions for {evidence.positions} frames "
        f"and {'a' if mid(evidence) else 'no'} middle block: no known family of motion modules has these",
        remedy="If the download is complete, report it with a link to the file.",
    )
