"""Convert a prompt from one travel syntax to another, if the other can express it."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from animatediff.errors import SettingsError, quoted
from animatediff.travel import cyclic, fizz, json_files, native
from animatediff.travel.parse import DEFAULTS, Options, both, read, schedule, syntax_of
from animatediff.travel.reading import Script, whole
from animatediff.travel.schedule import Key, Schedule
from animatediff.travel.template import EXPRESSION

SYNTAXES = ("native", "fizz", "cyclic")


def convert(prompt: str, to: str, frames: int, where: str = "prompt", options: Options = DEFAULTS) -> str:
    """Return the prompt in the syntax `to` (one of SYNTAXES).

    Every frame of the clip has the same texts with the same shares as before. This is checked by parsing the result.
    `changes` lists the differences that remain.

    Raise SettingsError if the other syntax cannot express the prompt; the error names the part.
    """
    if to not in SYNTAXES:
        raise SettingsError(f"{quoted(to)} is no syntax of prompt travel", where="to",
                            remedy=f"Use {', '.join(SYNTAXES)}.")
    syntax = syntax_of(prompt)
    if syntax == to and not json_files.is_json(prompt):
        return prompt
    text = _written(prompt, to, frames, where)
    try:
        differs = next(_differences(prompt, text, frames, options), None)
    except SettingsError as error:
        raise _cannot(to, f"it would be refused there ({error.what})", where) from None
    if differs is not None:
        raise _cannot(to, f"frame {differs} would have another prompt", where)
    return text


def changes(prompt: str, text: str, frames: int, options: Options = DEFAULTS) -> list[str]:
    """Return notes on what changed in a conversion although every frame has the same texts."""
    before, after = schedule(prompt, frames, options), schedule(text, frames, options)
    said = []
    if before.interpolation != after.interpolation and any(mix.share for mix in before.mixes):
        said.append(f"this syntax mixes prompts differently; with travel_interpolation {before.interpolation} the "
                    "clip stays the same")
    if [" ".join(text.split()) for text in before.texts] != [" ".join(text.split()) for text in after.texts]:
        said.append("commas at the ends of prompts are left out")
    return said


def _written(prompt: str, to: str, frames: int, where: str) -> str:
    script = read(prompt, frames, where)
    if to == "cyclic" or cyclic.is_cyclic(prompt):
        script = Script("native", "", _runs(_texts(prompt, frames, to, where)), "")
    if to == "cyclic":
        return _options(script.keys, frames, where)
    keys = [replace(key, text=whole(script, key)) for key in script.keys]
    return _native(keys, where) if to == "native" else fizz.write(_without_easing(keys, where))


def _differences(prompt: str, text: str, frames: int, options: Options) -> Iterator[int]:
    """Yield the frames whose texts or shares differ. Commas and blanks around the parts of a text are ignored."""
    def shown(schedule: Schedule, frame: int) -> dict[str, float]:
        return {", ".join(" ".join(part.split()) for part in text.split(",") if part.strip()): round(share, 6)
                for text, share in schedule.shares(frame)}

    pairs = list(zip(both(prompt, "", frames, options), both(text, "", frames, options)))
    for frame in range(frames):
        if any(shown(before, frame) != shown(after, frame) for before, after in pairs):
            yield frame


def _texts(prompt: str, frames: int, to: str, where: str) -> list[str]:
    """Return the text of each frame. Raise SettingsError if a frame mixes two texts."""
    found = schedule(prompt, frames, where=where)
    mixed = next((frame for frame, mix in enumerate(found.mixes) if mix.share), None)
    if mixed is not None:
        raise _cannot(to, f"frame {mixed} is between two prompts", where)
    return [found.texts[mix.first] for mix in found.mixes]


def _runs(texts: Sequence[str]) -> tuple[Key, ...]:
    """Return a "hold" key frame for each frame whose text differs from the frame before."""
    return tuple(Key(frame, text, "hold") for frame, text in enumerate(texts) if not frame or text != texts[frame - 1])


def _options(keys: Sequence[Key], frames: int, where: str) -> str:
    ends = [*(key.frame for key in keys[1:]), frames]
    texts = [key.text for key, end in zip(keys, ends) for _ in range(end - key.frame)]
    if bad := next((text for text in texts if set(text) & set("{|}")), None):
        raise _cannot("cyclic", f"{quoted(bad)} has a brace or a bar in it", where)
    return texts[0] if len(keys) == 1 else "{@" + "|".join(texts) + "}"


def _native(keys: Sequence[Key], where: str) -> str:
    for key in keys:
        if EXPRESSION.search(key.text) or fizz.has_negative(key.text):
            raise _cannot("native", f"line {key.line} has an expression or --neg in it", where)
    return native.write([replace(key, text=" ".join(key.text.splitlines())) for key in keys])


def _without_easing(keys: Sequence[Key], where: str) -> list[Key]:
    """Return key frames without easings. A "hold" becomes a second key frame just before the next one.

    Raise SettingsError for other easings.
    """
    found = []
    for key, after in zip(keys, [*keys[1:], None]):
        if key.easing not in ("", "linear", "hold"):
            raise _cannot("fizz", f"line {key.line} has the easing {key.easing}", where)
        found.append(Key(key.frame, key.text))
        if key.easing == "hold" and after and after.frame - 1 > key.frame:
            found.append(Key(after.frame - 1, key.text))
    return found


def _cannot(to: str, why: str, where: str) -> SettingsError:
    return SettingsError(f"this cannot be expressed in the syntax {to}: {why}", where=where,
                         remedy="Keep it as it is, or change that first.")
