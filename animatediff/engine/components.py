"""An image model in parts, from whatever file it comes."""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

from animatediff.engine.text import TextEncoder
from animatediff.motion import BetaSchedule

SD15_BETAS = BetaSchedule("scaled_linear", 0.00085, 0.012)


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
