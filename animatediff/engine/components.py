"""The parts of a loaded image model."""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

from animatediff.engine.text import TextEncoder
from animatediff.errors import ModelError, quoted
from animatediff.motion import BetaSchedule

MOST_STEPS = 100_000
SD15_BETAS = BetaSchedule("scaled_linear", 0.00085, 0.012)


def schedule(where: Path, *, kind: Any = None, start: Any = None, end: Any = None, steps: Any = None) -> BetaSchedule:
    """Return an image model's noise schedule.

    where: the file that the values come from, for errors.
    kind, start, end, steps: None is Stable Diffusion's value.
    Raise ModelError for a schedule that is not supported or impossible.
    """
    found = {"kind": kind, "start": start, "end": end, "steps": steps}
    kind, start, end, steps = (getattr(SD15_BETAS, name) if value is None else value for name, value in found.items())
    if kind not in ("linear", "scaled_linear"):
        raise ModelError(f"the noise schedule {quoted(kind)} is not supported", where=str(where),
                         remedy="Use a model with linear or scaled_linear")
    try:
        low, high, count = float(start), float(end), int(steps)  # YAML parses 1e-4 as text
    except (TypeError, ValueError, OverflowError):
        low = high = count = 0
    if not 0 < low <= high < 1 < count <= MOST_STEPS:
        raise ModelError(f"there is no noise schedule from {quoted(start)} to {quoted(end)} in {quoted(steps)} steps",
                         where=str(where), remedy="Restore the file that the model came with")
    return BetaSchedule(kind, low, high, count)


@dataclass
class Components:
    """An image model: its networks, in evaluation mode and without gradients, and their parameters."""

    unet: UNet2DConditionModel
    vae: AutoencoderKL  # its latent scale is `vae.config.scaling_factor`
    text: TextEncoder
    name: str
    betas: BetaSchedule = SD15_BETAS  # the image model's noise schedule, for stills
    prediction: str = "epsilon"  # or "v_prediction"
    path: Path | None = None

    @property
    def device(self) -> torch.device:
        return next(self.unet.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.unet.parameters()).dtype

    @property
    def scale(self) -> int:
        """Size of a latent pixel in pixels, along one side."""
        config: Any = self.vae.config
        return 2 ** (len(config.block_out_channels) - 1)

    @property
    def channels(self) -> int:
        """Number of channels of a latent."""
        config: Any = self.unet.config
        return config.in_channels
