"""Interpolation between the conditionings of two prompts."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from animatediff.travel import Schedule

NEARLY_PARALLEL = 0.9995  # |cos| above which slerp falls back to lerp


def slerp(first: Tensor, second: Tensor, share: float) -> Tensor:
    """Return the spherical interpolation of two tensors as whole vectors, computed in float32.

    Lengths are interpolated with the directions. Nearly parallel and zero tensors are interpolated linearly.
    Shoemake 1985, "Animating rotation with quaternion curves".
    """
    a, b = first.float(), second.float()
    cosine = (a.flatten() @ b.flatten() / (a.norm() * b.norm())).clamp(-1, 1)
    if not cosine.abs() <= NEARLY_PARALLEL:  # true also for NaN, which a zero tensor gives
        return lerp(first, second, share)
    angle = cosine.acos()
    mixed = (((1 - share) * angle).sin() * a + (share * angle).sin() * b) / angle.sin()
    return mixed.to(first.dtype)


def lerp(first: Tensor, second: Tensor, share: float) -> Tensor:
    """Return the linear interpolation of two tensors, computed in float32."""
    return torch.lerp(first.float(), second.float(), share).to(first.dtype)


MIX = {"slerp": slerp, "linear": lerp}


@dataclass
class TravellingPrompt:
    """A clip's conditioning: the distinct prompts of a schedule, encoded once and mixed for each frame."""

    schedule: Schedule
    encoded: Tensor  # [text tokens d], a row for each of schedule.texts

    def of(self, frames: Sequence[int]) -> Tensor:
        """Return the conditioning of these frames, [frame tokens d]."""
        if len(self.encoded) == 1:
            return self.encoded.expand(len(frames), -1, -1)
        mix = MIX[self.schedule.interpolation]
        rows = []
        for frame in frames:
            part = self.schedule.mixes[frame]
            row = self.encoded[part.first]
            rows.append(mix(row, self.encoded[part.second], part.share) if part.share else row)
        return torch.stack(rows)

    def to(self, device: torch.device) -> TravellingPrompt:
        return TravellingPrompt(self.schedule, self.encoded.to(device))
