"""What the ControlNet extension imports under this name; the rest is animatediff.hosts.neighbours.sparsectrl."""
from animatediff.hosts.neighbours.sparsectrl import MotionModuleType, MotionWrapper

__all__ = ["MotionModuleType", "MotionWrapper"]
