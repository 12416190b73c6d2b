"""How strongly keys or a change count: one number, or one for each frame and place."""
from __future__ import annotations

from torch import Tensor

Scale = float | Tensor
