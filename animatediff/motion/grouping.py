"""Apply a function to the clips of a batch, in any order of rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import torch
from torch import Tensor

from animatediff.layout import ClipLayout, Group

OnClips = Callable[[Tensor, Group], Tensor]  # ([(clip frame) c h w], frame numbers) -> the same shape


def apply_by_clip(x: Tensor, layout: ClipLayout, on_clips: OnClips, *, rest: Tensor | None = None) -> Tensor:
    """Return the result of `on_clips` on the rows of each group of x [n c h w], in frame order.

    Groups with the same frames are computed together. A batch that is simply (clip frame) is passed on without a copy.
    rest: source of the rows that belong to no group; x by default.
    """
    rows_of: dict[Group, list[int]] = defaultdict(list)
    for group, frames in zip(layout.groups, layout.frames):
        if group:
            rows_of[frames].extend(group)
    if len(rows_of) == 1:
        [(frames, rows)] = rows_of.items()
        if rows == list(range(x.shape[0])):
            return on_clips(x, frames)
    result = x if rest is None else rest
    for frames, rows in rows_of.items():
        index = torch.tensor(rows, device=x.device)
        result = result.index_copy(0, index, on_clips(x.index_select(0, index), frames))
    return result
