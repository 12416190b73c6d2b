"""The methods of enlarging. A new one is a function or class that makes an `Upscaler`, and an entry in METHODS."""
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from animatediff.media.upscale.network import Network

# Frame uint8 [h w 3], width, height -> a frame that is fitted to this size afterwards.
Upscaler = Callable[[np.ndarray, int, int], np.ndarray]
LANCZOS, LATENT, MODEL = "Lanczos", "latent", "model"


def _unchanged(frame: np.ndarray, width: int, height: int) -> np.ndarray:
    return frame


# Made from the tensors of a file and a device, which only networks need.
METHODS: dict[str, Callable[[Mapping[str, Any], str], Upscaler]] = {
    LANCZOS: lambda tensors, device: _unchanged,  # fitting uses Lanczos
    LATENT: lambda tensors, device: _unchanged,  # the frames' latents are enlarged, behind the VAE's encoder
    MODEL: Network,
}
