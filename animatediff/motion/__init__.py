"""Motion modules: the network, family detection, loading, and injection into a host's UNet."""

from __future__ import annotations

from animatediff.motion.build import build
from animatediff.motion.families import FAMILIES, BetaSchedule, Family, detect
from animatediff.motion.inject import injected
from animatediff.motion.load import Description, describe, load
from animatediff.motion.module import MotionModule
from animatediff.motion.steering import Mask, Steering

__all__ = [
    "FAMILIES",
    "BetaSchedule",
    "Description",
    "Family",
    "Mask",
    "MotionModule",
    "Steering",
    "build",
    "describe",
    "detect",
    "injected",
    "load",
]
