"""Latents, noise and the windowed denoiser; tensors only, no host."""
from animatediff.sampling import betas, freeinit, memory, noise
from animatediff.sampling.events import Event, OnEvent
from animatediff.sampling.windowed import Denoise, WindowedDenoiser

__all__ = ["Denoise", "Event", "OnEvent", "WindowedDenoiser", "betas", "freeinit", "memory", "noise"]
