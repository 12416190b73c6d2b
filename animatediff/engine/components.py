"""An image model in parts, from whatever file it comes."""
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
    """An image model's noise schedule; what is None is Stable Diffusion's. where: the file that says it."""
    found = {"kind": kind, "start": start, "end": end, "steps": steps}
    kind, start, end, steps = (getattr(SD15_BETAS, name) if value is None else value for name, value in found.items())
    if kind not in ("linear", "scaled_linear"):
        raise ModelError(f"the noise schedule {quoted(kind)} is not supported", where=str(where),
                         remedy="Use a model with linear or scaled_linear")
    try:
        low, high, count = float(start), float(end), int(steps)  # YAML takes 1e-4 for text
    except (TypeError, ValueError, OverflowError):
        low = high = count = 0
    if not 0 < low <= high < 1 < count <= MOST_STEPS:
        raise ModelError(f"there is no noise schedule from {quoted(start)} to {quoted(end)} in {quoted(steps)} steps",
                         where=str(where), remedy="Restore the file that the model came with")
    return BetaSchedule(kind, low, high, count)


@dataclass
class Components:
    """An image model in parts, in evaluation mode and without gradients.

    `betas` is the image model's own noise schedule, for stills; `prediction` is "epsilon" or "v_prediction". The VAE's
    latent scale is `vae.config.scaling_factor`.
    """

    unet: UNet2DConditionModel
    vae: AutoencoderKL
    text: TextEncoder
    name: str
    betas: BetaSchedule = SD15_BETAS
    prediction: str = "epsilon"
    path: Path | None = None

    @property
    def device(self) -> torch.device:
        return next(self.unet.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.unet.parameters()).dtype

    @property
    def scale(self) -> int:
        """Pixels along one side of a latent."""
        config: Any = self.vae.config
        return 2 ** (len(config.block_out_channels) - 1)

    @property
    def channels(self) -> int:
        """Of a latent."""
        config: Any = self.unet.config
        return config.in_channels
