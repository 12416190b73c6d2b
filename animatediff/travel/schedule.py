"""The prompt schedule, which every syntax becomes: key frames, and for each frame the prompts that are mixed."""
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

Text = str | Callable[[int], str]  # a prompt, or a function from a frame's number to its prompt
INTERPOLATIONS = ("auto", "slerp", "linear", "hold")
# A frame's position u between two key frames, in [0, 1) -> the share of the second one's prompt.
EASINGS: dict[str, Callable[[float], float]] = {
    "linear": lambda u: u,
    "ease-in": lambda u: u * u,
    "ease-out": lambda u: u * (2 - u),
    "ease-in-out": lambda u: u * u * (3 - 2 * u),
    "hold": lambda u: 0.0,
}


@dataclass(frozen=True)
class Key:
    """A key frame: a prompt that is reached at a frame."""

    frame: int
    text: str
    easing: str = ""  # up to the next key frame; "" for the clip's easing
    line: int = 1  # place in the user's text, from 1
    column: int = 1


class Mix(NamedTuple):
    """The prompts of a frame: a share of 1 - `share` of the first text, and `share` of the second."""

    first: int  # index in Schedule.texts
    second: int  # index in Schedule.texts
    share: float


@dataclass(frozen=True)
class Schedule:
    """The prompts of a clip."""

    texts: tuple[str, ...]  # distinct, so that each is encoded once
    mixes: tuple[Mix, ...]  # one for each frame
    interpolation: str = "slerp"  # slerp or linear; hold for frames that have their own prompts
    notes: tuple[str, ...] = ()  # notes for the user

    @classmethod
    def of_frames(cls, texts: Sequence[str]) -> Schedule:
        """Of frames that each have a prompt of their own."""
        numbers = {text: number for number, text in enumerate(dict.fromkeys(texts))}
        return cls(tuple(numbers), tuple(Mix(numbers[text], numbers[text], 0.0) for text in texts), "hold")

    @property
    def travels(self) -> bool:
        return len(self.texts) > 1

    def shares(self, frame: int) -> list[tuple[str, float]]:
        """Return the texts of a frame with their shares, the larger share first."""
        mix = self.mixes[frame]
        parts = {self.texts[mix.first]: 1 - mix.share, self.texts[mix.second]: mix.share} if mix.share else \
            {self.texts[mix.first]: 1.0}
        return sorted(parts.items(), key=lambda part: -part[1])

    @property
    def nearest(self) -> list[str]:
        """The text with the larger share in each frame."""
        return [self.shares(frame)[0][0] for frame in range(len(self.mixes))]

    def to_dict(self) -> dict:
        """Return the schedule for JSON output."""
        return {"interpolation": self.interpolation, "travels": self.travels, "rows": self.rows()}

    def rows(self) -> list[dict]:
        """Return a table for users. Successive frames with the same prompts and shares are one row."""
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
    """Return the distinct texts and the mix of each frame.

    keys: key frames in ascending order.
    text_of(key): the key frame's prompt, or a function from a frame's number to its prompt.
    closed: interpolate from the last key frame back to the first. Without it, frames before the first key frame have
    its prompt, and frames after the last one have that one's.
    hold: share of each interval in which the first prompt stays unchanged; 1 cuts.
    easing: for key frames that name none.
    most: see Options.
    """
    texts: dict[str, int] = {}
    mixes: list[Mix] = []

    def number(text: Text, frame: int) -> int:
        return texts.setdefault(text if isinstance(text, str) else text(frame), len(texts))

    for interval in _intervals(keys, frames, closed):
        if not interval.frames:
            continue
        evaluated = interval.frames if not most else interval.frames[:max(1, most - interval.frames.start)]
        a, b, ease = text_of(interval.first), text_of(interval.second), EASINGS[interval.first.easing or easing]
        still = a is b or hold == 1
        if still and isinstance(a, str):
            alone = number(a, 0)
            mixes += [Mix(alone, alone, 0.0)] * len(evaluated)
            continue
        for frame in evaluated:
            share = 0.0 if still else ease(max(0.0, (frame - interval.begin) / interval.length - hold) / (1 - hold))
            first = number(a, frame)
            second = number(b, frame) if share else first
            mixes.append(Mix(first, second, share if second != first else 0.0))
    return tuple(texts), tuple(mixes)


class _Interval(NamedTuple):
    """The interval between two key frames."""

    first: Key
    second: Key
    frames: range  # the clip's frames in it
    begin: int  # frame of the first key; negative if it lies before the clip's start, in a loop
    length: int  # in frames


def _intervals(keys: Sequence[Key], frames: int, closed: bool) -> Iterator[_Interval]:
    first, last = keys[0], keys[-1]
    closed = closed and first is not last and last.frame < frames
    around = first.frame + frames - last.frame
    before, after = range(min(first.frame, frames)), range(min(last.frame, frames), frames)
    yield (_Interval(last, first, before, last.frame - frames, around) if closed else
           _Interval(first, first, before, 0, 1))
    for key, other in pairwise(keys):
        inside = range(min(key.frame, frames), min(other.frame, frames))
        yield _Interval(key, other, inside, key.frame, other.frame - key.frame)
    yield _Interval(last, first, after, last.frame, around) if closed else _Interval(last, last, after, 0, 1)
