"""Parse a prompt in any of the syntaxes into its schedule."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache

from animatediff.errors import SettingsError
from animatediff.travel import cyclic, fizz, json_files, native, unread
from animatediff.travel.characters import with_tags
from animatediff.travel.expressions import Levels
from animatediff.travel.reading import BAD, Script, joined, place, refuse, spaced, whole
from animatediff.travel.schedule import Key, Schedule, Text, between
from animatediff.travel.template import Reader

LONGEST = 100_000  # characters of a prompt
MOST = 5_000_000  # characters of all different prompts of a clip together


def read(prompt: str, frames: int, where: str = "prompt") -> Script:
    """Parse head, key frames and tail. A prompt without key frames becomes one key frame at frame 0."""
    if len(prompt) > LONGEST:
        raise SettingsError(f"it has {len(prompt):,} characters", where=where,
                            remedy=f"Use at most {LONGEST:,}.")
    if bad := BAD.search(prompt):
        raise refuse("this is not a valid character (NUL, or half of a pair)", where, *place(prompt, bad.start()),
                     "Remove it.")
    prompt = with_tags(prompt)
    cyclic.check(prompt, where)
    if json_files.is_json(prompt):
        script = json_files.read(prompt, frames, where)
    elif fizz.is_fizz(prompt):
        script = fizz.read(prompt, frames, where)
    elif native.is_native(prompt):
        script = native.read(prompt, frames, where)
    else:
        script = Script("plain", "", (Key(0, prompt),), "")
    return replace(script, notes=(*script.notes, *unread.notes(script, prompt, where)))


def syntax_of(prompt: str) -> str:
    """Return "native", "fizz", "cyclic" or "plain". JSON counts as "fizz"."""
    found = "fizz" if json_files.is_json(prompt) or fizz.is_fizz(prompt) else \
        "native" if native.is_native(prompt) else "plain"
    return "cyclic" if found == "plain" and cyclic.is_cyclic(prompt) else found


@dataclass(frozen=True)
class Options:
    """How prompts change between key frames."""

    closed: bool = False  # interpolate from the last key frame back to the first
    interpolation: str = "auto"  # slerp, linear, hold, or auto for the syntax's own
    hold: float = 0.0  # share of each interval in which the first key frame's prompt stays unchanged
    easing: str = "linear"  # for intervals that name none
    weights: Mapping[str, str] = field(default_factory=dict)  # expressions of pw_a … pw_d
    levels: Levels | None = None  # of the clip's sound, for expressions that follow it
    # For a preview of a long clip: evaluate this many frames, and one frame of each later interval. 0: all frames.
    most: int = 0


DEFAULTS = Options()


def schedule(prompt: str, frames: int, options: Options = DEFAULTS, *, where: str = "prompt") -> Schedule:
    """Return the schedule of one prompt. Raise SettingsError with line and column if it cannot be parsed."""
    return _scheduled(read(prompt, frames, where), frames, where, options)


def both(prompt: str, negative: str, frames: int, options: Options = DEFAULTS) -> tuple[Schedule, Schedule]:
    """Return the schedules of a clip's prompt and negative prompt. `--neg` parts go to the negative prompt."""
    script, other = read(prompt, frames), read(negative, frames, "negative prompt")
    if script.syntax == "fizz":
        script, unwanted = fizz.without_negatives(script)
        if any((unwanted.head, unwanted.tail, *(key.text for key in unwanted.keys))):
            if other.syntax != "plain":
                raise SettingsError("the prompt contains --neg, but this one has its own key frames",
                                    where="negative prompt", remedy="Use one of the two.")
            texts = (joined(negative, spaced(unwanted.head, key.text, unwanted.tail)) for key in unwanted.keys)
            keys = tuple(replace(key, text=text) for key, text in zip(unwanted.keys, texts))
            other = Script("fizz", "", keys, "", notes=other.notes)
    return _scheduled(script, frames, "prompt", options), _scheduled(other, frames, "negative prompt", options)


def _scheduled(script: Script, frames: int, where: str, options: Options) -> Schedule:
    _check_length(script, frames, where)
    reader = Reader(frames, options.weights, script.syntax == "fizz", options.levels)

    @cache
    def text_of(key: Key) -> Text:
        return reader(whole(script, key), f"{where}, line {key.line}")

    interpolation = options.interpolation
    if interpolation == "auto":
        interpolation = "linear" if script.syntax == "fizz" else "slerp"
    texts, mixes = between(script.keys, frames, text_of, closed=options.closed, easing=options.easing,
                           hold=1.0 if interpolation == "hold" else options.hold, most=options.most)
    return Schedule(texts, mixes, "linear" if interpolation == "linear" else "slerp",
                    tuple(_notes(script, frames, where)))


def _check_length(script: Script, frames: int, where: str) -> None:
    """Raise SettingsError if the prompts of all key frames, or of all frames if they are computed, exceed MOST."""
    around, longest = len(script.head) + len(script.tail), max(len(key.text) for key in script.keys)
    marks = (cyclic.OPENER, "`") if script.syntax == "fizz" else (cyclic.OPENER,)
    length = sum(around + len(key.text) for key in script.keys)
    if any(mark in text for text in (script.head, script.tail, *(key.text for key in script.keys)) for mark in marks):
        length = max(length, frames * (around + longest))
    if length > MOST:
        raise SettingsError(f"its key frames and frames come to {length:,} characters of prompts", where=where,
                            remedy=f"Use a shorter prompt or fewer frames, for at most {MOST:,}.")


def _notes(script: Script, frames: int, where: str) -> list[str]:
    """Return the reader's notes, and notes on key frames after the last frame."""
    behind = [key for key in script.keys if key.frame >= frames]
    said = list(script.notes)
    for number, key in enumerate(behind):
        use = "its prompt is never used" if number or (len(behind) < len(script.keys) and key.easing == "hold") else \
            "its prompt is approached and never reached" if len(behind) < len(script.keys) else \
            "its prompt is used for the whole clip"
        said.append(f"{where}, line {key.line}: key frame {key.frame} is after the last frame, {frames - 1}; {use}")
    return said
