"""Many pictures for a network that looks at one picture."""
from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

SIDE = 224  # pixels that a CLIP vision network sees


def stacked(pictures: Sequence[Tensor], *, faces: bool) -> Tensor:
    """Return pictures [1 h w c] of any sizes as one tensor [picture h w c].

    faces: whether faces are looked for in them. Then they keep their pixels, and smaller ones get a black border. Else
        they are made as a CLIP vision network sees them: the middle square, 224 pixels wide.
    """
    if not faces:
        return torch.cat([_square(picture) for picture in pictures])
    height, width = (max(picture.shape[side] for picture in pictures) for side in (1, 2))
    return torch.cat([functional.pad(picture, (0, 0, 0, width - picture.shape[2], 0, height - picture.shape[1]))
                      for picture in pictures])


def _square(picture: Tensor) -> Tensor:
    height, width = picture.shape[1:3]
    if height == width == SIDE:
        return picture
    scale = SIDE / min(height, width)
    size = round(scale * height), round(scale * width)
    large = functional.interpolate(picture.movedim(-1, 1), size=size, mode="bicubic", antialias=True).movedim(1, -1)
    top, left = (size[0] - SIDE) // 2, (size[1] - SIDE) // 2
    return large[:, top:top + SIDE, left:left + SIDE]


class OneByOne:
    """A CLIP vision network that looks at a batch picture by picture, so that a clip needs the memory of one."""

    def __init__(self, network: Any):
        self.network = network

    def __getattr__(self, name: str) -> Any:
        return getattr(self.network, name)

    def encode_image(self, image: Tensor, *args: Any, **kwargs: Any) -> Any:
        return together([self.network.encode_image(image[i:i + 1], *args, **kwargs) for i in range(len(image))])

    def model(self, *, pixel_values: Tensor, **kwargs: Any) -> Any:
        first = pixel_values[:1]
        if not torch.equal(pixel_values, first.expand_as(pixel_values)):
            return self.network.model(pixel_values=pixel_values, **kwargs)
        return together([self.network.model(pixel_values=first, **kwargs)] * len(pixel_values))


def together(parts: Sequence[Any]) -> Any:
    """Return outputs of a network, each for one picture, as its output for all of them.

    The tensors of equal objects are not copied. Other outputs have the tensors as attributes.
    """
    first = parts[0]
    if isinstance(first, Tensor):
        same = all(part is first for part in parts)
        return first.expand(len(parts), *first.shape[1:]) if same else torch.cat(list(parts))
    if isinstance(first, (tuple, list)):
        return tuple(together(each) for each in zip(*parts, strict=True))
    if first is None:
        return None
    values = [part if isinstance(part, dict) else vars(part) for part in parts]
    return SimpleNamespace(**{name: together([value[name] for value in values]) for name in values[0]})
