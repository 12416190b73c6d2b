"""What the ControlNet extension imports under this name; the rest is animatediff.hosts.webui.controlnet."""
from animatediff.hosts.webui.controlnet import animatediff_i2i_batch
from animatediff.hosts.webui.older import fallback

__all__ = ["animatediff_i2i_batch"]
__getattr__ = fallback("animatediff_i2ibatch")
