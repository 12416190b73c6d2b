"""Motion modules: the network, the families and how to tell them, files, and injection into a host's UNet."""
from __future__ import annotations

from animatediff.motion.build import build
from animatediff.motion.families import FAMILIES, BetaSchedule, Family
from animatediff.motion.inject import injected
from animatediff.motion.network import MotionModule

__all__ = ["FAMILIES", "BetaSchedule", "Family", "MotionModule", "build", "injected"]
