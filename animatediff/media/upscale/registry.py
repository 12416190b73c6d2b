"""The upscaling methods. To add one, write a function or class that returns an `Upscaler` and add it to METHODS."""
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from animatediff.media.upscale.network import Network

# Takes a frame uint8 [h w 3], width and height; returns a frame that the caller fits to this size.
Upscaler = Callable[[np.ndarray, int, int], np.ndarray]
LANCZOS, LATENT, MODEL = "Lanczos", "latent", "model"


def _unchanged(frame: np.ndarray, width: int, height: int) -> np.ndarray:
    return frame


# Each factory takes the tensors of a model file and a device, which only networks use.
METHODS: dict[str, Callable[[Mapping[str, Any], str], Upscaler]] = {
    LANCZOS: lambda tensors, device: _unchanged,  # fitting uses Lanczos
    LATENT: lambda tensors, device: _unchanged,  # the latents are enlarged instead, after the VAE's encoder
    MODEL: Network,
}
