"""What the ControlNet extension imports under this name; the rest is animatediff.hosts.neighbours.controlnet."""
from animatediff.hosts.neighbours.controlnet import get_animatediff_arg

__all__ = ["get_animatediff_arg"]
