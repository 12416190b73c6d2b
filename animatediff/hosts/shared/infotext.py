"""The clip's settings as the value of the infotext key "AnimateDiff", and back.

    enable: True, motion_module: mm.ckpt, frames: 16, fps: 8, context_length: 16, closed_loop: R+P

What a person wants to see is always there, the rest where it differs from the table's default. A value that could be
taken for something else is written as JSON text. The host quotes the whole and takes the quotes off again. The older
extension's text (`model: mm.ckpt, video_length: 16, …`) is read as well.
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
BETWEEN = "+"  # joins the entries of a list; no choice of a list holds it
_PLAIN = re.compile(r"""[^\s",:\\](?:[^",:\\\x00-\x1f\x7f\x85\u2028\u2029]*[^\s",:\\])?""")
_NAME, _NEXT = re.compile(r"(?<!\w)(\w+): ?"), re.compile(r", ?(?=\w+: )")
_QUOTED = re.compile(r'"(?:\\.|[^"\\])*"(?=, ?\w+: |,? *\Z)', re.DOTALL)


def dumps(settings: Settings, **more: Any) -> str:
    """`more`: other facts to show, which are not read back; their names must not be parameters'."""
    values = {name: getattr(settings, name) for name, p in CLIP.items()
              if name in ALWAYS or getattr(settings, name) != p.default}
    for name in more:
        if name in BY_NAME or not name.isidentifier():
            raise ValueError(f"{name!r} is no name for a further fact")
    items = [(name, values[name]) for name in ALWAYS] + [item for item in values.items() if item[0] not in ALWAYS]
    return ", ".join(f"{name}: {_text(value)}" for name, value in [*items, *more.items()])


def loads(text: str) -> dict[str, Any]:
    """Values by our names. Of our own text, all of the clip's parameters; of the older extension's, those it names.

    What is unknown or out of range is left out: the text may be of another version.
    """
    written = {name: _unquoted(value) for name, value in _items(text)}
    if not written:
        return {}
    older = legacy.wrote(written)
    values = {} if older else {name: p.default for name, p in CLIP.items()}
    values["enable"] = True  # some versions of the older extension do not say so
    for name, value in (legacy.of_infotext(written) if older else written).items():
        parameter = BY_NAME.get(name)
        if parameter is None or parameter.group != "clip":
            continue
        read = _value(parameter, value)
        if read is not None:
            values[parameter.name] = read
    return values


def expand(params: dict[str, Any]) -> None:
    """Of what the host has read from an infotext: a key "AnimateDiff NAME" for each parameter, in place of the one."""
    values = _found(params)
    for key in [key for key in params if key == KEY or (key.startswith(f"{KEY} ") and key[len(KEY) + 1:] in BY_NAME)]:
        del params[key]
    params |= {f"{KEY} {name}": _joined(value) for name, value in values.items()}


class Field(str):
    """The key of a parameter in what the host has read from an infotext, and the reader of its value there.

    The host takes a name or a function. It sends controls to another tab by their names, but does not call
    `on_infotext_pasted` for the API's `infotext`, and makes a list of letters of a list's text: this is both.
    """

    parameter: Parameter

    @classmethod
    def of(cls, name: str) -> Field:
        field = cls(f"{KEY} {name}")
        field.parameter = CLIP[name]
        return field

    def __call__(self, params: dict[str, Any]) -> Any:
        """The control's new value; None leaves it as it is."""
        own = (f"{KEY} {name}" for name in (self.parameter.name, *self.parameter.aliases))
        written = next((params[key] for key in own if key in params), None)  # by `expand`
        value = loads(params[KEY]).get(self.parameter.name) if KEY in params else _value(self.parameter, written)
        if isinstance(value, tuple):
            offered = [entry for entry in value if entry not in self.parameter.api_only]
            return offered or list(self.parameter.default)
        return value


def _items(text: str) -> Iterator[tuple[str, str]]:
    """Names and values. A value that is not quoted goes on over commas until a name follows, as the older extension
    wrote file names."""
    at, last = 0, len(text.rstrip(" ").removesuffix(","))
    while name := _NAME.search(text, at):
        found = _QUOTED.match(text, name.end())
        after = None if found else _NEXT.search(text, name.end())
        at = found.end() if found else after.start() if after else max(last, name.end())
        yield name[1], text[name.end():at]


def _found(params: dict[str, Any]) -> dict[str, Any]:
    """Values by our names. The older extension, if it is there, has taken the text apart already."""
    if isinstance(params.get(KEY), str):
        return loads(params[KEY])
    split = {key[len(KEY) + 1:]: value for key, value in params.items() if key.startswith(f"{KEY} ")}
    return loads(", ".join(f"{name}: {_quoted(str(value))}" for name, value in split.items() if name in BY_NAME))


def _joined(value: Any) -> str:
    if isinstance(value, tuple):
        return BETWEEN.join(value)
    if isinstance(value, float):
        return repr(int(value) if value.is_integer() else value)
    return str(value)


def _text(value: Any) -> str:
    return _quoted(_joined(value))


def _quoted(text: str) -> str:
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)


def _unquoted(text: str) -> str:
    if len(text) > 1 and text[0] == text[-1] == '"':
        try:
            return json.loads(text, strict=False)
        except ValueError:
            pass
    return text.strip()


def _value(parameter: Parameter, text: str | None) -> Any:
    """None for what the parameter does not take."""
    if text is None:
        return None
    try:
        return parameter.read(text.split(BETWEEN) if parameter.type is tuple else text)
    except SettingsError:
        return None
