"""Frames between frames: when they are due (`plan`), where a clip is cut (`cuts`), and what they show (`registry`)."""
from __future__ import annotations

from animatediff.media.interpolate.registry import METHODS, Method
from animatediff.media.interpolate.stream import Stream

__all__ = ["METHODS", "Method", "Stream"]
