"""Draw coloured shapes: the pictures on which the demo model is trained.

Pictures are drawn from signed distances with one pixel of anti-aliasing, so positions are exact below a pixel. All
values are tensors over N pictures; nothing here is random.
"""
from __future__ import annotations

import math
from dataclasses import dataclass

import torch

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (220, 30, 30),
    "orange": (250, 140, 0),
    "yellow": (245, 225, 30),
    "green": (30, 160, 50),
    "cyan": (30, 210, 220),
    "blue": (35, 70, 220),
    "purple": (135, 40, 180),
    "pink": (255, 130, 190),
}
BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    "white": (248, 248, 248),
    "black": (12, 12, 12),
    "gray": (128, 128, 128),
    "beige": (225, 210, 180),
}


def _regular(points: int, radius: float, turn: float = 0.0) -> list[tuple[float, float]]:
    angles = [turn + 2 * math.pi * k / points for k in range(points)]
    return [(radius * math.sin(a), -radius * math.cos(a)) for a in angles]


def _star(outer: float, inner: float) -> list[tuple[float, float]]:
    tips, dents = _regular(5, outer), _regular(5, inner, math.pi / 5)
    return [p for pair in zip(tips, dents) for p in pair]


def _cross(reach: float, arm: float) -> list[tuple[float, float]]:
    r, a = reach, arm
    return [(-a, -r), (a, -r), (a, -a), (r, -a), (r, a), (a, a), (a, r), (-a, r), (-a, a), (-r, a), (-r, -a), (-a, -a)]


# Outlines in units of the radius, with y down, scaled so that all look equally large. The circle has None.
OUTLINES: dict[str, list[tuple[float, float]] | None] = {
    "circle": None,
    "square": [(-0.82, -0.82), (0.82, -0.82), (0.82, 0.82), (-0.82, 0.82)],
    "triangle": _regular(3, 1.2),
    "star": _star(1.25, 0.52),
    "cross": _cross(1.05, 0.36),
}
SHAPES = tuple(OUTLINES)


@dataclass
class Scene:
    """The contents of N pictures. Every field is a tensor of length N; lengths in pixels, angles in radians."""

    shape: torch.Tensor  # index into SHAPES
    colour: torch.Tensor  # [n 3] in 0..255
    background: torch.Tensor  # [n 3] in 0..255
    x: torch.Tensor
    y: torch.Tensor
    radius: torch.Tensor
    angle: torch.Tensor  # clockwise

    def __len__(self) -> int:
        return len(self.shape)

    def __getitem__(self, rows) -> Scene:
        return Scene(*(getattr(self, f)[rows] for f in self.__dataclass_fields__))


def _polygon_distance(p: torch.Tensor, outline: list[tuple[float, float]]) -> torch.Tensor:
    """Return the signed distance (negative inside) of the points p [n k 2] to a polygon."""
    corners = torch.tensor(outline, dtype=p.dtype)
    best = torch.full(p.shape[:-1], math.inf)
    inside = torch.zeros(p.shape[:-1], dtype=torch.bool)
    for a, b in zip(corners, corners.roll(-1, 0)):
        edge, to = b - a, p - a
        along = ((to @ edge) / (edge @ edge)).clamp(0, 1)
        best = torch.minimum(best, (to - along[..., None] * edge).square().sum(-1))
        crosses = (a[1] > p[..., 1]) != (b[1] > p[..., 1])
        span = torch.where(b[1] == a[1], torch.ones(()), b[1] - a[1])
        inside ^= crosses & (p[..., 0] < edge[0] * (p[..., 1] - a[1]) / span + a[0])
    return torch.where(inside, -best.sqrt(), best.sqrt())


def coverage(scene: Scene, size: int) -> torch.Tensor:
    """Return the share of each pixel that the shape covers, [n size size] in 0..1."""
    axis = torch.arange(size, dtype=torch.float32) + 0.5
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1).reshape(1, -1, 2)
    p = (grid - torch.stack([scene.x, scene.y], -1)[:, None]) / scene.radius[:, None, None]
    c, s = scene.angle.cos()[:, None], scene.angle.sin()[:, None]
    p = torch.stack([c * p[..., 0] + s * p[..., 1], c * p[..., 1] - s * p[..., 0]], -1)
    distance = torch.empty(p.shape[:-1])
    for index, outline in enumerate(OUTLINES.values()):
        rows = scene.shape == index
        if rows.any():
            distance[rows] = p[rows].norm(dim=-1) - 0.92 if outline is None else _polygon_distance(p[rows], outline)
    return (0.5 - distance * scene.radius[:, None]).clamp(0, 1).reshape(len(scene), size, size)


def render(scene: Scene, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return pictures [n 3 size size] in −1..1 and the coverage [n 1 size size] of their shapes."""
    mask = coverage(scene, size)[:, None]
    colour, background = (c[:, :, None, None] / 127.5 - 1 for c in (scene.colour, scene.background))
    return background + (colour - background) * mask, mask
