"""Write and read the value of the infotext key "AnimateDiff", and read the WebUI's own values beside it.

    enable: True, motion_module: mm.ckpt, frames: 16, fps: 8, context_length: 16, closed_loop: R+P

The parameters in ALWAYS are always written, others only if they differ from their default. An ambiguous value is
written as a JSON string. The host adds quotes around the whole text and removes them. The older extension's text
(`model: mm.ckpt, video_length: 16, …`) can be read as well.
"""
from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from animatediff.clip import legacy
from animatediff.errors import SettingsError
from animatediff.parameters import Parameter
from animatediff.settings import BY_NAME, PARAMETERS, Settings

KEY = "AnimateDiff"
ALWAYS = ("enable", "motion_module", "frames", "fps", "context_length")
CLIP = {p.name: p for p in PARAMETERS if p.group == "clip"}
BETWEEN = "+"  # joins the entries of a list; no entry contains it
_PLAIN = re.compile(r"""[^\s",:\\](?:[^",:\\\x00-\x1f\x7f\x85\u2028\u2029]*[^\s",:\\])?""")
_NAME, _NEXT = re.compile(r"(?<!\w)(\w+): ?"), re.compile(r", ?(?=\w+: )")
# Name and value in the last line of the WebUI's text, and our names for them.
_OF_HOST = re.compile(r'(\w[\w \-/]{0,60}): ?("(?:\\.|[^\\"])*"|[^,]*)(?:,|$)')
_NEGATIVE = "Negative prompt"
_OURS = {"Prompt": "prompt", _NEGATIVE: "negative", "Steps": "steps", "Sampler": "sampler",
         "Schedule type": "schedule_type", "CFG scale": "cfg", "Seed": "seed", "Model": "checkpoint"}
_QUOTED = re.compile(r'"(?:\\.|[^"\\])*"(?=, ?\w+: |,? *\Z)', re.DOTALL)


def dumps(settings: Settings, **more: Any) -> str:
    """Return the text of the settings.

    more: further values to show. They are not read back, and their names must not be names of parameters.
    """
    values = {name: getattr(settings, name) for name, p in CLIP.items()
              if name in ALWAYS or getattr(settings, name) != p.default}
    for name in more:
        if name in BY_NAME or not name.isidentifier():
            raise ValueError(f"{name!r} is no name for a further fact")
    items = [(name, values[name]) for name in ALWAYS] + [item for item in values.items() if item[0] not in ALWAYS]
    return ", ".join(f"{name}: {_text(value)}" for name, value in [*items, *more.items()])


def loads(text: str) -> dict[str, Any]:
    """Return the values in a text by our names.

    Our own text gives all of the clip's parameters, the older extension's text only those that it names. Unknown names
    and values out of range are left out, since another version may have written the text.
    """
    written = {name: _unquoted(value) for name, value in _items(text)}
    if not written:
        return {}
    older = legacy.wrote(written)
    values = {} if older else {name: p.default for name, p in CLIP.items()}
    values["enable"] = True  # some versions of the older extension do not write it
    for name, value in (legacy.of_infotext(written) if older else written).items():
        parameter = BY_NAME.get(name)
        if parameter is None or parameter.group != "clip":
            continue
        read = read_value(parameter, value)
        if read is not None:
            values[parameter.name] = read
    return values


def of_webui(text: str) -> dict[str, Any]:
    """Return all values in a WebUI infotext by our names: prompts, the WebUI's values, and the AnimateDiff values.

    Returns {} for any other text.
    """
    found = by_webui_names(text)
    read = {ours: read_value(BY_NAME[ours], found[name]) for name, ours in _OURS.items() if name in found}
    clip = loads(found[KEY]) if KEY in found else {}
    return clip | {name: value for name, value in read.items() if value is not None}


def by_webui_names(text: str) -> dict[str, str]:
    """Return all values in a WebUI infotext as text, by the WebUI's names. Returns {} for any other text."""
    *lines, last = text.strip().split("\n")
    found = {name: _unquoted(value) for name, value in _OF_HOST.findall(last)}
    if "Steps" not in found:
        return {}
    begin = next((i for i, line in enumerate(lines) if line.strip().startswith(f"{_NEGATIVE}:")), len(lines))
    negative = "\n".join(lines[begin:]).strip().removeprefix(f"{_NEGATIVE}:")
    return found | {"Prompt": "\n".join(lines[:begin]).strip(), _NEGATIVE: negative.strip()}


def _items(text: str) -> Iterator[tuple[str, str]]:
    """Yield names and values.

    A value without quotes may contain commas; it ends where the next name begins. The older extension wrote file names
    like this.
    """
    at, last = 0, len(text.rstrip(" ").removesuffix(","))
    while name := _NAME.search(text, at):
        found = _QUOTED.match(text, name.end())
        after = None if found else _NEXT.search(text, name.end())
        at = found.end() if found else after.start() if after else max(last, name.end())
        yield name[1], text[name.end():at]


def joined(value: Any) -> str:
    """Return a value as text that `read_value` can read."""
    if isinstance(value, tuple):
        return BETWEEN.join(value)
    if isinstance(value, float):
        return repr(int(value) if value.is_integer() else value)
    return str(value)


def _text(value: Any) -> str:
    return quoted(joined(value))


def quoted(text: str) -> str:
    """Return the text, as a JSON string if it would be ambiguous without quotes."""
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)


def _unquoted(text: str) -> str:
    if len(text) > 1 and text[0] == text[-1] == '"':
        try:
            return json.loads(text, strict=False)
        except ValueError:
            pass
    return text.strip()


def read_value(parameter: Parameter, text: str | None) -> Any:
    """Return the parameter's value, or None if the text is missing or no valid value."""
    if text is None:
        return None
    try:
        return parameter.read(text.split(BETWEEN) if parameter.type is tuple else text)
    except SettingsError:
        return None
