"""The type of motion scale and motion effect: one number, or one per frame and place."""
from __future__ import annotations

from torch import Tensor

Scale = float | Tensor
