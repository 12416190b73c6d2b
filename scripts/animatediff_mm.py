"""What the ControlNet extension imports under this name; the rest is animatediff.hosts.webui.sparsectrl."""
from animatediff.hosts.webui.older import fallback
from animatediff.hosts.webui.sparsectrl import MotionModuleType, MotionWrapper

__all__ = ["MotionModuleType", "MotionWrapper"]
__getattr__ = fallback("animatediff_mm")
