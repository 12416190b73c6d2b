"""What every syntax of prompt travel becomes: key frames, and for each frame the prompts that it is mixed of."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

INTERPOLATIONS = ("auto", "slerp", "linear", "hold")
# u, how far between two key frames a frame lies [0, 1) -> the second one's share
EASINGS: dict[str, Callable[[float], float]] = {
    "linear": lambda u: u,
    "ease-in": lambda u: u * u,
    "ease-out": lambda u: u * (2 - u),
    "ease-in-out": lambda u: u * u * (3 - 2 * u),
    "hold": lambda u: 0.0,
}


@dataclass(frozen=True)
class Key:
    """A prompt that is reached at a frame. `easing`: of the way to the next key frame, "" for the clip's. `line` and
    `column`, from 1: where it stands in the text."""

    frame: int
    text: str
    easing: str = ""
    line: int = 1
    column: int = 1


@dataclass(frozen=True)
class Mix:
    """What a frame shows: (1 - share) of one text and share of another, numbers in Schedule.texts."""

    first: int
    second: int
    share: float


@dataclass(frozen=True)
class Schedule:
    """The prompts of a clip. `texts`: the distinct ones, each to be encoded once; `mixes`: one for each frame;
    `interpolation`: slerp or linear; `notes`: what a user may not expect of it."""

    texts: tuple[str, ...]
    mixes: tuple[Mix, ...]
    interpolation: str = "slerp"
    notes: tuple[str, ...] = ()

    @property
    def travels(self) -> bool:
        return len(self.texts) > 1

    def shares(self, frame: int) -> list[tuple[str, float]]:
        """The texts of a frame with their shares, the larger one first."""
        mix = self.mixes[frame]
        parts = {self.texts[mix.first]: 1 - mix.share, self.texts[mix.second]: mix.share} if mix.share else \
            {self.texts[mix.first]: 1.0}
        return sorted(parts.items(), key=lambda part: -part[1])

    @property
    def nearest(self) -> list[str]:
        """Of each frame the text that it shows most of."""
        return [self.shares(frame)[0][0] for frame in range(len(self.mixes))]

    def to_dict(self) -> dict:
        """What machines get of it."""
        return {"interpolation": self.interpolation, "travels": self.travels, "rows": self.rows()}

    def rows(self) -> list[dict]:
        """The table that users see: a row for each frame, or for each run of frames that show the same."""
        rows: list[dict] = []
        for frame in range(len(self.mixes)):
            prompts = [{"text": text, "weight": round(share, 4)} for text, share in self.shares(frame)]
            if rows and rows[-1]["prompts"] == prompts:
                rows[-1]["last"] = frame
            else:
                rows.append({"first": frame, "last": frame, "prompts": prompts})
        return rows


def between(keys: Sequence[Key], frames: int, text_at: Callable[[Key, int], str], *, closed: bool = False,
            hold: float = 0.0, easing: str = "linear") -> tuple[tuple[str, ...], tuple[Mix, ...]]:
    """The distinct texts and each frame's mix, of key frames in ascending order.

    text_at(key, frame): the key's prompt as that frame has it. hold: the share of each way on which the first key's
    prompt stays alone; 1 cuts. closed: the last key leads back to the first. Before the first key its prompt stands,
    behind the last one its.
    """
    texts: dict[str, int] = {}
    mixes = []
    for frame in range(frames):
        first, second, way = _neighbours(keys, frame, frames, closed)
        way = max(0.0, way - hold) / (1 - hold) if hold < 1 else 0.0
        share = EASINGS[first.easing or easing](way)
        a, b = text_at(first, frame), text_at(second, frame) if share else ""
        if not share or a == b:
            b, share = a, 0.0
        mixes.append(Mix(texts.setdefault(a, len(texts)), texts.setdefault(b, len(texts)), share))
    return tuple(texts), tuple(mixes)


def _neighbours(keys: Sequence[Key], frame: int, frames: int, closed: bool) -> tuple[Key, Key, float]:
    """The key before a frame, the one after it, and how far between the two it lies [0, 1)."""
    before = [key for key in keys if key.frame <= frame]
    after = keys[len(before):]
    if before and after:
        first, second = before[-1], after[0]
        return first, second, (frame - first.frame) / (second.frame - first.frame)
    first, second = keys[-1], keys[0]
    if closed and first is not second and first.frame < frames:
        return first, second, (frame - first.frame) % frames / (second.frame + frames - first.frame)
    only = before[-1] if before else after[0]
    return only, only, 0.0
