"""Motion LoRAs and their weights, from the parameter `motion_lora` and from <lora:NAME:WEIGHT> tags in prompts.

The parameter's syntax:

    zoom-in                        weight 1
    zoom-in: 0.8; pan-left: -0.5   entries are separated by semicolons or new lines
    zoom-in: 0: 1, 8: 0            a weight that changes over the clip: any curve, see `curves`
    "a: b; c.safetensors": 0.5     a name with a colon or a semicolon is quoted
"""
from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import PurePath

from animatediff.curves import Curve
from animatediff.errors import SettingsError, quoted
from animatediff.travel import Schedule

MOST = 10.0  # largest absolute value of a weight
MANY = 100  # most motion LoRAs in a clip
FULL = Curve(numbers=(1.0,))
HOW = "Write NAME or NAME: WEIGHT, with ; between entries, such as zoom-in: 0.8; pan-left: 0: 1, 8: 0."
_ENTRY = re.compile(r'(?:"[^"\n]*"|[^";\n])+')
_TAG = re.compile(r"<(?:lora|lyco):([^<>]+)>")


@dataclass(frozen=True)
class Wish:
    """A motion LoRA that the user asks for: its name, and its weight over the clip."""

    name: str
    weight: Curve = FULL

    def __str__(self) -> str:
        name = f'"{self.name}"' if set(self.name) & set(":;\n") else self.name
        return name if self.weight == FULL else f"{name}: {self.weight}"


def read(text: str) -> tuple[Wish, ...]:
    """Return the parameter's entries in order. Raise SettingsError with entry and column."""
    for line in re.finditer(r"[^\n]+", text):
        if line[0].count('"') % 2:
            raise _refused("a quote is not closed", text, 0, line.start() + line[0].rindex('"'))
    entries = [found for found in _ENTRY.finditer(text) if found[0].strip()]
    _check_number(len(entries))
    return tuple(_wish(found, number, text) for number, found in enumerate(entries, 1))


def _wish(entry: re.Match[str], number: int, text: str) -> Wish:
    written, start = entry[0].strip(), entry.start() + len(entry[0]) - len(entry[0].lstrip())
    is_quoted = written.startswith('"')
    end = written.index('"', 1) + 1 if is_quoted else (written + ":").index(":")
    name, rest = (written[1:end - 1] if is_quoted else written[:end]).strip(), written[end:]
    if '"' in rest or '"' in name or (rest.strip() and not rest.lstrip().startswith(":")):
        raise _refused("quotes must enclose a whole name", text, number, start)
    if not name:
        raise _refused("names no motion LoRA", text, number, start)
    if not rest.strip():
        return Wish(name)
    weight = rest.lstrip()[1:].lstrip()
    start += len(written) - len(weight)
    try:
        curve = Curve.read(weight)
    except ValueError as error:
        raise _refused(f"the weight {error}", text, number, start) from None
    if max(map(abs, curve.extremes)) > MOST:
        raise _refused(f"the weight is not between {-MOST:g} and {MOST:g}", text, number, start)
    return Wish(name, curve)


def _check_number(count: int) -> None:
    if count > MANY:
        raise SettingsError(f"{count} motion LoRAs are named", where="motion_lora", remedy=f"Use at most {MANY}.")


def write(wishes: Iterable[Wish]) -> str:
    """Return the text that `read` parses into the same entries."""
    return "; ".join(map(str, wishes))


def without_folders(text: str) -> str:
    """Return the parameter's text with file names instead of paths. A text without paths is returned unchanged."""
    wishes = read(text)
    named = tuple(replace(wish, name=PurePath(wish.name).name) for wish in wishes)
    return text if named == wishes else write(named)


def tags(prompt: str) -> list[tuple[str, float]]:
    """Return names and weights of a prompt's <lora:…> tags. Raise SettingsError for a weight that is not a number."""
    return [of_tag(found[1].split(":")) for found in _TAG.finditer(prompt)]


def tag_names(prompt: str) -> list[str]:
    """Return the names in a prompt's <lora:…> tags. Weights are not checked."""
    return [found[1].split(":")[0].strip() for found in _TAG.finditer(prompt)]


def without_tags(prompt: str) -> str:
    """Return the prompt without its <lora:…> tags, as it is encoded."""
    return _TAG.sub("", prompt)


def of_tag(items: Sequence[str]) -> tuple[str, float]:
    """Return name and weight of a tag.

    items: the tag's parts between colons, as in the WebUI: the name, the text encoder's weight, the UNet's weight. The
    weights may also be given as te= and unet=. A motion LoRA has the UNet's weight; without one, the text encoder's.
    Raise SettingsError for a weight that is not a number.
    """
    named = dict(item.split("=", 1) for item in items if item.count("=") == 1)
    name, *weights = [item for item in items if item.count("=") != 1] or [""]
    weights = [named.get("te", weights[0] if weights else "1"), *weights[1:2]]
    written = named.get("unet", weights[-1])
    try:
        return name.strip(), Curve.read(float(written)).extremes[0]
    except ValueError:
        raise SettingsError(f"{quoted(written)} is not a weight", where=f"prompt, <lora:{':'.join(items)[:60]}>",
                            remedy="Write a number, such as <lora:zoom-in:0.8>.") from None


def of_clip(text: str, prompt: Schedule) -> tuple[Wish, ...]:
    """Return the motion LoRAs that the parameter's text and a clip's prompts name."""
    return read(text) + of_frames([prompt.shares(frame) for frame in range(len(prompt.mixes))])


def of_frames(frames: Sequence[Iterable[tuple[str, float]]],
              named: Callable[[str], Iterable[tuple[str, float]]] = tags) -> tuple[Wish, ...]:
    """Return the motion LoRAs that the tags in a clip's prompts name.

    A frame's weight is the sum of the weights in its prompts times the prompts' shares.

    frames: for each frame its prompts with their shares.
    named(prompt): returns names and weights of the prompt's tags.
    """
    weights: dict[str, list[float]] = {}
    of_prompt = cache(named)
    for frame, shares in enumerate(frames):
        for prompt, share in shares:
            for name, weight in of_prompt(prompt):
                _check_number(len(weights))
                weights.setdefault(name, [0.0] * len(frames))[frame] += share * weight
    # The shares of a frame may add up to slightly more or less than 1.
    return tuple(Wish(name, Curve(numbers=tuple(round(value, 9) for value in values)))
                 for name, values in weights.items())


def _refused(what: str, text: str, number: int, offset: int) -> SettingsError:
    column = offset - (text.rfind("\n", 0, offset) + 1) + 1
    entry = f"entry {number}, " if number else ""
    return SettingsError(f"{entry}column {column}: {what}", where="motion_lora", remedy=HOW)
