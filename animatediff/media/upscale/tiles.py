"""Apply a network to a large picture in overlapping tiles, so that its memory use is bounded."""
from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

MARGIN = 20  # pixels at a tile's edge that are not used, because they depend on pixels outside the tile
FADE = 8  # pixels over which one tile fades into the next
OVERLAP = 2 * MARGIN + FADE


def in_tiles(network: Callable[[Tensor], Tensor], picture: Tensor, scale: int, side: int) -> Tensor:
    """Return network(picture) of a picture [1 c h w], computed in tiles: float32 [1 c h·scale w·scale] on the CPU.

    side: side of a tile in pixels, more than OVERLAP.
    The result is the same as without tiles if output pixels depend on no more than MARGIN pixels around them.
    """
    height, width = picture.shape[2:]
    if max(height, width) <= side:
        return network(picture).float().cpu()
    total = weights = torch.zeros(())
    for top, rows in _places(height, side, scale):
        for left, columns in _places(width, side, scale):
            tile = network(picture[:, :, top : top + side, left : left + side]).float().cpu()
            weight = rows[:, None] * columns
            if not total.dim():
                total = torch.zeros(1, tile.shape[1], height * scale, width * scale)
                weights = torch.zeros(height * scale, width * scale)
            y, x = top * scale, left * scale
            total[:, :, y : y + tile.shape[2], x : x + tile.shape[3]] += tile * weight
            weights[y : y + tile.shape[2], x : x + tile.shape[3]] += weight
    return total / weights


def _places(length: int, side: int, scale: int) -> list[tuple[int, Tensor]]:
    """Return the starts of the tiles along one side of the picture, with the weights of each tile's pixels."""
    if length <= side:
        return [(0, torch.ones(length * scale))]
    count = math.ceil((length - OVERLAP) / (side - OVERLAP))
    starts = [round(i * (length - side) / (count - 1)) for i in range(count)]
    inward = ((torch.arange(side * scale) + 0.5) / scale - MARGIN) / FADE
    return [(start, torch.minimum(torch.ones(side * scale) if not start else inward.clamp(0, 1),
                                  torch.ones(side * scale) if start + side == length else inward.flip(0).clamp(0, 1)))
            for start in starts]
