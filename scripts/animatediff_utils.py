"""What the ControlNet extension imports under this name; the rest is animatediff.hosts.webui.controlnet."""
from animatediff.hosts.webui.controlnet import get_animatediff_arg
from animatediff.hosts.webui.older import fallback

__all__ = ["get_animatediff_arg"]
__getattr__ = fallback("animatediff_utils")
