"""What every syntax of prompt travel becomes: key frames, and for each frame the prompts that it is mixed of."""
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

Text = str | Callable[[int], str]  # a prompt, or what says it of a frame
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


class Mix(NamedTuple):
    """What a frame shows: (1 - share) of one text and share of another, numbers in Schedule.texts."""

    first: int
    second: int
    share: float


@dataclass(frozen=True)
class Schedule:
    """The prompts of a clip. `texts`: the distinct ones, each to be encoded once; `mixes`: one for each frame;
    `interpolation`: slerp or linear, or hold for frames with prompts of their own; `notes`: what a user may not expect
    of it."""

    texts: tuple[str, ...]
    mixes: tuple[Mix, ...]
    interpolation: str = "slerp"
    notes: tuple[str, ...] = ()

    @classmethod
    def of_frames(cls, texts: Sequence[str]) -> Schedule:
        """Of frames that each have a prompt of their own."""
        numbers = {text: number for number, text in enumerate(dict.fromkeys(texts))}
        return cls(tuple(numbers), tuple(Mix(numbers[text], numbers[text], 0.0) for text in texts), "hold")

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


def between(keys: Sequence[Key], frames: int, text_of: Callable[[Key], Text], *, closed: bool = False,
            hold: float = 0.0, easing: str = "linear", most: int = 0) -> tuple[tuple[str, ...], tuple[Mix, ...]]:
    """The distinct texts and each frame's mix, of key frames in ascending order.

    text_of(key): the key's prompt, or what says it of a frame. hold: the share of each way on which the first key's
    prompt stays alone; 1 cuts. closed: the last key leads back to the first. Frames before the first key have its
    prompt, frames behind the last one have that one's. most: see Options.
    """
    texts: dict[str, int] = {}
    mixes: list[Mix] = []

    def number(text: Text, frame: int) -> int:
        return texts.setdefault(text if isinstance(text, str) else text(frame), len(texts))

    for way in _ways(keys, frames, closed):
        if not way.frames:
            continue
        looked_at = way.frames if not most else way.frames[:max(1, most - way.frames.start)]
        a, b, ease = text_of(way.first), text_of(way.second), EASINGS[way.first.easing or easing]
        still = a is b or hold == 1
        if still and isinstance(a, str):
            alone = number(a, 0)
            mixes += [Mix(alone, alone, 0.0)] * len(looked_at)
            continue
        for frame in looked_at:
            share = 0.0 if still else ease(max(0.0, (frame - way.begin) / way.length - hold) / (1 - hold))
            first = number(a, frame)
            second = number(b, frame) if share else first
            mixes.append(Mix(first, second, share if second != first else 0.0))
    return tuple(texts), tuple(mixes)


class _Way(NamedTuple):
    """Frames on the way from one key to another, which begins at frame `begin` and is `length` frames long."""

    first: Key
    second: Key
    frames: range
    begin: int
    length: int


def _ways(keys: Sequence[Key], frames: int, closed: bool) -> Iterator[_Way]:
    first, last = keys[0], keys[-1]
    closed = closed and first is not last and last.frame < frames
    around = first.frame + frames - last.frame
    before, after = range(min(first.frame, frames)), range(min(last.frame, frames), frames)
    yield _Way(last, first, before, last.frame - frames, around) if closed else _Way(first, first, before, 0, 1)
    for key, other in pairwise(keys):
        on_the_way = range(min(key.frame, frames), min(other.frame, frames))
        yield _Way(key, other, on_the_way, key.frame, other.frame - key.frame)
    yield _Way(last, first, after, last.frame, around) if closed else _Way(last, last, after, 0, 1)
