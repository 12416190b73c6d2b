"""Upscaling of frames: the methods (`registry`), and networks applied in tiles (`network`, `tiles`)."""
from __future__ import annotations

from animatediff.media.upscale.registry import LANCZOS, LATENT, METHODS, MODEL, Upscaler

__all__ = ["LANCZOS", "LATENT", "METHODS", "MODEL", "Upscaler"]
