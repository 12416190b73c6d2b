"""Frame interpolation: times of the new frames (`plan`), cut detection (`cuts`), and the methods (`registry`)."""
from __future__ import annotations

from animatediff.media.interpolate.registry import METHODS, Method
from animatediff.media.interpolate.stream import Stream

__all__ = ["METHODS", "Method", "Stream"]
