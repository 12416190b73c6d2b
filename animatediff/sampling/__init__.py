"""Latents, noise and the windowed denoiser. This package works on tensors and knows no host."""
from animatediff.sampling import betas, freeinit, memory, noise
from animatediff.sampling.events import Event, OnEvent
from animatediff.sampling.windowed import Denoise, WindowedDenoiser

__all__ = ["Denoise", "Event", "OnEvent", "WindowedDenoiser", "betas", "freeinit", "memory", "noise"]
