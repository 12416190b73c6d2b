"""What the ControlNet extension imports under this name; the rest is animatediff.hosts.neighbours.controlnet."""
from animatediff.hosts.neighbours.controlnet import animatediff_i2i_batch

__all__ = ["animatediff_i2i_batch"]
