"""How the rows of one UNet batch are laid out: which rows are which frames of which clip and role."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from animatediff import fuse, windows

if TYPE_CHECKING:
    from animatediff.settings import Settings

Group = tuple[int, ...]


@dataclass(frozen=True)
class Views:
    """Windows in which a motion module sees the frames of a group, while the UNet's other layers see them all at once.

    `windows[k][i]` is a place in the group, `shares[k][i]` what window k has in the result there; the shares of a place
    add up to 1.
    """

    windows: tuple[Group, ...]
    shares: tuple[tuple[float, ...], ...]

    @classmethod
    def of(cls, settings: Settings, clip: int, frames: Group, step: int) -> Views | None:
        """Those of a UNet call of these frames, out of `clip`, in a sampler step counted from 0. None where the motion
        module sees the call as it is."""
        s, whole = settings, tuple(range(clip))
        if s.context_schedule != "views" or tuple(frames) != whole:
            return None
        plan = windows.plan(clip, s.context_length, overlap=s.overlap, closed_loop=s.closed_loop, schedule="views",
                            step=step)
        if plan == [whole]:
            return None
        shares = fuse.shares(plan, s.fuse_method, frames=clip, overlap=s.overlap_frames)
        return cls(tuple(plan), tuple(map(tuple, shares)))


@dataclass(frozen=True)
class ClipLayout:
    """Groups of batch rows. A group is one clip in one role (cond, uncond, one AND-part), its rows in frame order.

    Temporal attention and GroupNorm over frames run inside a group, never across groups. Groups may differ
    in length; rows that belong to no group are single pictures and are left as they are.
    `frames[i][k]` is the clip's frame that row `groups[i][k]` shows (for per-frame scales). With `views`, whose places
    are those of every group, temporal attention and GroupNorm over frames run inside its windows.
    """

    groups: tuple[Group, ...]
    frames: tuple[Group, ...]
    views: Views | None = None

    def __post_init__(self) -> None:
        if tuple(map(len, self.groups)) != tuple(map(len, self.frames)):
            raise ValueError("each group needs one frame number for each of its rows")
        rows = [row for group in self.groups for row in group]
        if len(set(rows)) != len(rows):
            raise ValueError("a batch row belongs to more than one group")

    @classmethod
    def contiguous(cls, frames: Group | int, groups: int = 1, views: Views | None = None) -> ClipLayout:
        """`groups` runs of rows one after another, each showing the same frames: (group frame)."""
        numbers = tuple(range(frames)) if isinstance(frames, int) else tuple(frames)
        return cls.stacked([numbers] * groups, views)

    @classmethod
    def stacked(cls, frames: Sequence[Group], views: Views | None = None) -> ClipLayout:
        """Runs of rows one after another, each showing frames of its own."""
        ends = list(accumulate(map(len, frames), initial=0))
        return cls(tuple(tuple(range(*ends_of)) for ends_of in pairwise(ends)), tuple(frames), views)

    @property
    def is_contiguous(self) -> bool:
        """Whether the batch is simply (group frame), so that a view serves instead of a gather."""
        rows = [row for group in self.groups for row in group]
        return rows == list(range(len(rows))) and len({len(g) for g in self.groups}) == 1


# A host tells the layout of the UNet call that is under way from the number of its rows.
LayoutOf = Callable[[int], ClipLayout]
