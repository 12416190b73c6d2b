"""What the ControlNet extension imports under this name; the rest is animatediff.hosts.neighbours.controlnet."""
from animatediff.hosts.neighbours.controlnet import animatediff_i2i_batch
from animatediff.hosts.neighbours.older import fallback

__all__ = ["animatediff_i2i_batch"]
__getattr__ = fallback("animatediff_i2ibatch")
