"""AnimateDiff: text to animation with motion modules for Stable Diffusion."""
from animatediff.version import __version__

__all__ = ["__version__"]
