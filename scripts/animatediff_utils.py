"""What the ControlNet extension imports under this name; the rest is animatediff.hosts.neighbours.controlnet."""
from animatediff.hosts.neighbours.controlnet import get_animatediff_arg
from animatediff.hosts.neighbours.older import fallback

__all__ = ["get_animatediff_arg"]
__getattr__ = fallback("animatediff_utils")
