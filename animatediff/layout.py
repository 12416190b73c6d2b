"""The layout of a UNet batch: the clip, role and frame of each row."""
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
    """Context windows of a motion module within a UNet call that has all frames at once.

    Only layers that mix frames run in windows; the UNet's other layers process every frame once.
    """

    windows: tuple[Group, ...]  # windows[k][i]: a position in the group
    shares: tuple[tuple[float, ...], ...]  # shares[k][i]: weight of window k there; the weights of a position sum to 1

    @classmethod
    def of(cls, settings: Settings, clip: int, frames: Group, step: int) -> Views | None:
        """Return the Views of a UNet call, or None if the motion module processes all its frames in one window.

        clip: number of frames in the clip. frames: frame numbers of the call. step: sampler step, counted from 0.
        """
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
    """Groups of batch rows. A group is one clip in one role (cond, uncond, one AND part), its rows in frame order.

    Temporal attention and GroupNorm over frames run within a group, never across groups. Groups may differ in length.
    Rows that belong to no group are single pictures; the motion module does not change them.
    """

    groups: tuple[Group, ...]  # groups[i][k]: a row of the batch
    frames: tuple[Group, ...]  # frames[i][k]: frame number of row groups[i][k], for scales per frame
    views: Views | None = None  # if set, layers that mix frames run within these windows of every group

    def __post_init__(self) -> None:
        if tuple(map(len, self.groups)) != tuple(map(len, self.frames)):
            raise ValueError("each group needs one frame number for each of its rows")
        rows = [row for group in self.groups for row in group]
        if len(set(rows)) != len(rows):
            raise ValueError("a batch row belongs to more than one group")

    @classmethod
    def contiguous(cls, frames: Group | int, groups: int = 1, views: Views | None = None) -> ClipLayout:
        """Return the layout (group frame): `groups` groups, one after another, with the same frames.

        frames: frame numbers, or the number of frames.
        """
        numbers = tuple(range(frames)) if isinstance(frames, int) else tuple(frames)
        return cls.stacked([numbers] * groups, views)

    @classmethod
    def stacked(cls, frames: Sequence[Group], views: Views | None = None) -> ClipLayout:
        """Return the layout of groups one after another. frames: frame numbers of each group."""
        ends = list(accumulate(map(len, frames), initial=0))
        return cls(tuple(tuple(range(*ends_of)) for ends_of in pairwise(ends)), tuple(frames), views)

    @property
    def is_contiguous(self) -> bool:
        """Whether the batch is simply (group frame), so that it can be viewed without a gather."""
        rows = [row for group in self.groups for row in group]
        return rows == list(range(len(rows))) and len({len(g) for g in self.groups}) == 1


# A host's function: number of rows -> layout of the current UNet call
LayoutOf = Callable[[int], ClipLayout]
