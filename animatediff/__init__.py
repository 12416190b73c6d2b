"""AnimateDiff: text to animation with motion modules for Stable Diffusion."""
__version__ = "0.1.0"
