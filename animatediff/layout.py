"""How the rows of one UNet batch are laid out: which rows are which frames of which clip and role."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Group = tuple[int, ...]


@dataclass(frozen=True)
class ClipLayout:
    """Groups of batch rows. A group is one clip in one role (cond, uncond, one AND-part), its rows in frame order.

    Temporal attention and GroupNorm over frames run inside a group, never across groups. Groups may differ
    in length; rows that belong to no group are single pictures and are left as they are.
    `frames[i][k]` is the clip's frame that row `groups[i][k]` shows (for per-frame scales).
    """

    groups: tuple[Group, ...]
    frames: tuple[Group, ...]

    def __post_init__(self) -> None:
        if tuple(map(len, self.groups)) != tuple(map(len, self.frames)):
            raise ValueError("each group needs one frame number for each of its rows")
        rows = [row for group in self.groups for row in group]
        if len(set(rows)) != len(rows):
            raise ValueError("a batch row belongs to more than one group")

    @classmethod
    def contiguous(cls, frames: Group | int, groups: int = 1) -> "ClipLayout":
        """`groups` runs of rows one after another, each showing the same frames: (group frame)."""
        numbers = tuple(range(frames)) if isinstance(frames, int) else tuple(frames)
        n = len(numbers)
        return cls(tuple(tuple(range(g * n, (g + 1) * n)) for g in range(groups)), (numbers,) * groups)

    @property
    def is_contiguous(self) -> bool:
        """Whether the batch is simply (group frame), so that a view serves instead of a gather."""
        rows = [row for group in self.groups for row in group]
        return rows == list(range(len(rows))) and len({len(g) for g in self.groups}) == 1


# A host tells the layout of the UNet call that is under way from the number of its rows.
LayoutOf = Callable[[int], ClipLayout]
