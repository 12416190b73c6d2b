"""Conditionings between two prompts."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from animatediff.travel import Schedule

NEARLY_PARALLEL = 0.9995  # |cos| from which on the straight way is the same


def slerp(first: Tensor, second: Tensor, share: float) -> Tensor:
    """Spherical interpolation of two tensors as whole vectors, in float32 (Shoemake 1985, "Animating rotation with
    quaternion curves"); the lengths are interpolated with the directions.
    Straight where the two are nearly parallel."""
    a, b = first.float(), second.float()
    cosine = (a.flatten() @ b.flatten() / (a.norm() * b.norm())).clamp(-1, 1)
    if not cosine.abs() <= NEARLY_PARALLEL:  # also where one of them is zero
        return lerp(first, second, share)
    angle = cosine.acos()
    mixed = (((1 - share) * angle).sin() * a + (share * angle).sin() * b) / angle.sin()
    return mixed.to(first.dtype)


def lerp(first: Tensor, second: Tensor, share: float) -> Tensor:
    return torch.lerp(first.float(), second.float(), share).to(first.dtype)


MIX = {"slerp": slerp, "linear": lerp}


@dataclass
class TravellingPrompt:
    """A clip's conditioning: each distinct prompt of the schedule encoded once, mixed for the frames that want it."""

    schedule: Schedule
    encoded: Tensor  # [text tokens d], a row for each of schedule.texts

    def of(self, frames: Sequence[int]) -> Tensor:
        """[frame tokens d] of these frames."""
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
