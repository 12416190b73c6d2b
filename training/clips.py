"""Random clips with a scene per frame and a caption in varied wording."""
from __future__ import annotations

import math
import random
from dataclasses import dataclass

import torch

from .shapes import BACKGROUNDS, COLOURS, SHAPES, Scene

FRAMES = 16
SIZE = 64
# Largest distance of a horizontal or vertical track from the centre, in pixels of 64. The motion module learns the
# direction from where the image model places the shape. With tracks anywhere, a shape that begins in a corner would go
# to the opposite corner.
ASIDE = 6.0

# Direction of travel as (x, y), with y down. _WHERE has the wordings.
DIRECTIONS: dict[str, tuple[int, int]] = {
    "right": (1, 0),
    "left": (-1, 0),
    "up": (0, -1),
    "down": (0, 1),
    "up right": (1, -1),
    "up left": (-1, -1),
    "down right": (1, 1),
    "down left": (-1, 1),
}
_WHERE = {
    "right": ["right", "to the right", "rightwards"],
    "left": ["left", "to the left", "leftwards"],
    "up": ["up", "upwards"],
    "down": ["down", "downwards"],
    "up right": ["up right", "up and right", "diagonally up right", "up and to the right"],
    "up left": ["up left", "up and left", "diagonally up left", "up and to the left"],
    "down right": ["down right", "down and right", "diagonally down right", "down and to the right"],
    "down left": ["down left", "down and left", "diagonally down left", "down and to the left"],
}
_GOING = ["moving", "moving", "moving", "going", "sliding", "drifting"]
_DOING = {
    "grow": ["growing", "getting bigger", "expanding"],
    "shrink": ["shrinking", "getting smaller"],
    "spin": ["spinning", "rotating", "turning"],
    "bounce": ["bouncing", "jumping", "hopping"],
    "rest": ["standing still", "at rest", "not moving", ""],
}
_CALLED = {
    "circle": ["circle", "circle", "ball", "disc"],
    "square": ["square", "square", "box"],
    "cross": ["cross", "cross", "plus"],
}
_SIZES = {
    "small": (7.5, 8.5, ["small", "little", "tiny"]),
    "medium": (10.0, 11.5, [""]),
    "big": (13.0, 14.5, ["big", "large"]),
}
_SPEEDS = {"slow": (13.0, ["slowly"]), "normal": (25.0, [""]), "fast": (34.0, ["fast", "quickly"])}
MOTIONS = tuple(DIRECTIONS) + tuple(_DOING)


@dataclass
class Clip:
    """A clip with its caption and the values that the caption names."""

    caption: str
    shape: str
    colour: str
    background: str
    motion: str
    scene: Scene  # one row per frame


def caption(
    rng: random.Random, shape: str, colour: str, motion: str, size: str, speed: str, background: str | None
) -> str:
    """Return a random caption for a clip. background: None leaves it out."""
    called = rng.choice(_CALLED.get(shape, [shape]))
    noun = " ".join(filter(None, [rng.choice(_SIZES[size][2]), colour, called]))
    if motion in DIRECTIONS:
        verb = " ".join(filter(None, [rng.choice(_GOING), rng.choice(_WHERE[motion]), rng.choice(_SPEEDS[speed][1])]))
    else:
        verb = rng.choice(_DOING[motion])
    place = f"{background} background" if background else ""
    if rng.random() < 0.25:
        return ", ".join(filter(None, [noun, verb, place]))
    article = rng.choice(["a", "a", "the", "one"])
    if article == "a" and noun[0] in "aeiou":
        article = "an"
    return " ".join(filter(None, [article, noun, verb, f"on a {place}" if place else ""]))


def random_clip(rng: random.Random, frames: int = FRAMES, size: int = SIZE) -> Clip:
    """Return a random clip whose shape stays inside the picture. If the caption names no background, it is white."""
    motion = rng.choice(list(DIRECTIONS)) if rng.random() < 0.65 else rng.choice(list(_DOING))
    shape = rng.choice([s for s in SHAPES if s != "circle"] if motion == "spin" else SHAPES)
    colour = rng.choice(list(COLOURS))
    named = rng.choice(list(BACKGROUNDS)) if rng.random() < 0.75 else None
    large, fast = rng.choice(["small", "medium", "medium", "big"]), rng.choice(["slow", "normal", "normal", "fast"])
    if fast == "fast" and large == "big":
        fast = "normal"
    unit = size / 64
    radius = rng.uniform(*_SIZES[large][:2]) * unit
    time = torch.linspace(0, 1, frames)
    zero = torch.zeros(frames)
    x, y, radii, angles = zero, zero, zero + radius, zero
    if motion in DIRECTIONS:
        dx, dy = DIRECTIONS[motion]
        travel = _SPEEDS[fast][0] * unit * rng.uniform(0.9, 1.0)
        # A diagonal track covers 85 % of the distance along each axis.
        travel = travel if 0 in (dx, dy) else travel * 0.85
        x, y = dx * travel * (time - 0.5), dy * travel * (time - 0.5)
    elif motion in ("grow", "shrink"):
        factor = torch.exp(math.log(2.4) * (time - 0.5))
        radii = min(radius, 12.0 * unit) * (factor if motion == "grow" else factor.flip(0))
    elif motion == "spin":
        angles = zero + rng.uniform(0, 2 * math.pi) + time * math.radians(150)
    elif motion == "bounce":
        height = 0.32 * size
        y = height / 2 - height * (2 * math.pi * time).sin().abs()
    reach = 1.1 * radii.max().item()
    free_x = max(0.0, size / 2 - reach - x.abs().max().item())
    free_y = max(0.0, size / 2 - reach - y.abs().max().item())
    if motion in DIRECTIONS:
        if dx == 0:
            free_x = min(free_x, ASIDE * unit)
        if dy == 0:
            free_y = min(free_y, ASIDE * unit)
    x = x + size / 2 + rng.uniform(-free_x, free_x)
    y = y + size / 2 + rng.uniform(-free_y, free_y)

    def rows(rgb: tuple[int, int, int]) -> torch.Tensor:
        return torch.tensor(rgb, dtype=torch.float32).expand(frames, 3)

    behind = named or "white"
    kinds = torch.full((frames,), SHAPES.index(shape))
    scene = Scene(kinds, rows(COLOURS[colour]), rows(BACKGROUNDS[behind]), x, y, radii, angles)
    return Clip(caption(rng, shape, colour, motion, large, fast, named), shape, colour, behind, motion, scene)


def stack(scenes: list[Scene]) -> Scene:
    """Return the scenes concatenated into one."""
    return Scene(*(torch.cat([getattr(s, f) for s in scenes]) for f in Scene.__dataclass_fields__))
