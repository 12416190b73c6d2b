"""Latents, noise and the windowed denoiser; tensors only, no host."""
from . import betas, freeinit, memory, noise
from .events import Event, OnEvent
from .windowed import Denoise, WindowedDenoiser

__all__ = ["Denoise", "Event", "OnEvent", "WindowedDenoiser", "betas", "freeinit", "memory", "noise"]
