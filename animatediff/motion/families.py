"""The families of motion modules: what each is, and the evidence in the tensors that tells it from the others."""
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

Shapes = Mapping[str, tuple[int, ...]]


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
    within one clip and role, otherwise each frame on its own.
    """

    name: str
    base: str  # "SD1.5" or "SDXL"
    betas: BetaSchedule
    max_frames: int  # positions of the published weights; a file's own number counts
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


SD15_LINEAR = BetaSchedule("linear", 0.00085, 0.012)

V1 = Family("v1", "SD1.5", SD15_LINEAR, 24, resnet_norm_over_frames=True, out_norm_over_frames=True)
V2 = Family("v2", "SD1.5", SD15_LINEAR, 32, has_mid=True)
V3 = Family("v3", "SD1.5", SD15_LINEAR, 32)
ANIMATE_LCM = Family(
    "AnimateLCM", "SD1.5", BetaSchedule("linear", 0.00085, 0.012, lcm_steps=100), 64, has_mid=True, stores_pe=False
)
LONG = Family("LongAnimateDiff", "SD1.5", SD15_LINEAR, 64, best_frames=32, has_mid=True)
SDXL = Family("AnimateDiff-SDXL", "SDXL", BetaSchedule("scaled_linear", 0.00085, 0.020), 32, module_norm_over_frames=True)
HOTSHOT = Family(
    "HotShot-XL", "SDXL", BetaSchedule("scaled_linear", 0.00085, 0.012), 8, best_frames=8, resnet_norm_over_frames=True
)

FAMILIES: dict[str, Family] = {f.name: f for f in (V1, V2, V3, ANIMATE_LCM, LONG, SDXL, HOTSHOT)}
