"""A prompt in any of the syntaxes -> its schedule."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache

from animatediff.errors import SettingsError
from animatediff.travel import cyclic, fizz, native
from animatediff.travel.reading import Script, joined, spaced, whole
from animatediff.travel.schedule import Key, Schedule, between


def read(prompt: str, frames: int, where: str = "prompt") -> Script:
    """Head, key frames and tail; a prompt without key frames is one at frame 0."""
    if fizz.is_fizz(prompt):
        return fizz.read(prompt, frames, where)
    if native.is_native(prompt):
        return native.read(prompt, where)
    return Script("plain", "", (Key(0, prompt),), "")


def syntax_of(prompt: str) -> str:
    """ "native", "fizz", "cyclic" or "plain"."""
    found = "fizz" if fizz.is_fizz(prompt) else "native" if native.is_native(prompt) else "plain"
    return "cyclic" if found == "plain" and cyclic.is_cyclic(prompt) else found


@dataclass(frozen=True)
class Options:
    """How a clip gets from one key frame to the next."""

    closed: bool = False  # the last key frame leads back to the first
    interpolation: str = "auto"  # slerp, linear, hold, or auto for what the syntax has
    hold: float = 0.0  # the share of each way on which the first key frame's prompt stays alone
    easing: str = "linear"  # of ways that name none
    weights: Mapping[str, str] = field(default_factory=dict)  # expressions of pw_a … pw_d


DEFAULTS = Options()


def schedule(prompt: str, frames: int, options: Options = DEFAULTS, *, where: str = "prompt") -> Schedule:
    """One prompt's schedule; SettingsError names line and column of what cannot be read."""
    return _scheduled(read(prompt, frames, where), frames, where, options)


def both(prompt: str, negative: str, frames: int, options: Options = DEFAULTS) -> tuple[Schedule, Schedule]:
    """Schedules of the prompt and the negative prompt of a clip."""
    script, other = read(prompt, frames), read(negative, frames, "negative prompt")
    if script.syntax == "fizz":
        script, unwanted = fizz.without_negatives(script)
        if any((unwanted.head, unwanted.tail, *(key.text for key in unwanted.keys))):
            if other.syntax != "plain":
                raise SettingsError("the prompt says --neg, and this one has key frames of its own",
                                    where="negative prompt", remedy="Use one of the two.")
            texts = (joined(negative, spaced(unwanted.head, key.text, unwanted.tail)) for key in unwanted.keys)
            other = Script("fizz", "", tuple(replace(key, text=text) for key, text in zip(unwanted.keys, texts)), "")
    return _scheduled(script, frames, "prompt", options), _scheduled(other, frames, "negative prompt", options)


def _scheduled(script: Script, frames: int, where: str, options: Options) -> Schedule:
    @cache
    def text_at(key: Key, frame: int) -> str:
        text = whole(script, key)
        if script.syntax == "fizz":
            text = fizz.at_frame(text, frame, frames, options.weights, f"{where}, line {key.line}")
        return cyclic.at_frame(text, frame, frames, where)

    interpolation = options.interpolation
    if interpolation == "auto":
        interpolation = "linear" if script.syntax == "fizz" else "slerp"
    texts, mixes = between(script.keys, frames, text_at, closed=options.closed, easing=options.easing,
                           hold=1.0 if interpolation == "hold" else options.hold)
    return Schedule(texts, mixes, "linear" if interpolation == "linear" else "slerp",
                    tuple(_notes(script, frames, where)))


def _notes(script: Script, frames: int, where: str) -> list[str]:
    """Key frames that no frame reaches."""
    behind = [key for key in script.keys if key.frame >= frames]
    said = []
    for number, key in enumerate(behind):
        use = "its prompt is never used" if number or (len(behind) < len(script.keys) and key.easing == "hold") else \
            "its prompt is approached and never reached" if len(behind) < len(script.keys) else \
            "its prompt stands all along"
        said.append(f"{where}, line {key.line}: key frame {key.frame} lies behind the last frame, {frames - 1}; {use}")
    return said
