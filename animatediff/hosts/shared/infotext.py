"""Infotext values in the form that a WebUI's page takes."""
from __future__ import annotations

from typing import Any

from animatediff.clip.infotext import BETWEEN, CLIP, KEY, dumps, joined, loads, quoted, read_value
from animatediff.parameters import Parameter
from animatediff.settings import BY_NAME

__all__ = ["BETWEEN", "CLIP", "KEY", "Field", "dumps", "expand", "loads"]


def expand(params: dict[str, Any]) -> None:
    """Replace our entry in the host's parsed infotext by a key "AnimateDiff NAME" for each parameter."""
    values = _found(params)
    for key in [key for key in params if key == KEY or (key.startswith(f"{KEY} ") and key[len(KEY) + 1:] in BY_NAME)]:
        del params[key]
    params |= {f"{KEY} {name}": joined(value) for name, value in values.items()}


class Field(str):
    """The key of a parameter in the host's parsed infotext, which also reads the parameter's value there.

    The host takes either a name or a function. It needs names to send controls to another tab. But it does not call
    `on_infotext_pasted` for the API's `infotext`, and would turn a list's text into a list of letters. This class is
    both.
    """

    parameter: Parameter

    @classmethod
    def of(cls, name: str) -> Field:
        field = cls(f"{KEY} {name}")
        field.parameter = CLIP[name]
        return field

    def __call__(self, params: dict[str, Any]) -> Any:
        """Return the control's new value, or None to leave it as it is."""
        own = (f"{KEY} {name}" for name in (self.parameter.name, *self.parameter.aliases))
        written = next((params[key] for key in own if key in params), None)  # set by `expand`
        value = loads(params[KEY]).get(self.parameter.name) if KEY in params else read_value(self.parameter, written)
        if isinstance(value, tuple):
            offered = [entry for entry in value if entry not in self.parameter.api_only]
            return offered or list(self.parameter.default)
        return value


def _found(params: dict[str, Any]) -> dict[str, Any]:
    """Return the values by our names. The older extension, if installed, has already split the text."""
    if isinstance(params.get(KEY), str):
        return loads(params[KEY])
    split = {key[len(KEY) + 1:]: value for key, value in params.items() if key.startswith(f"{KEY} ")}
    return loads(", ".join(f"{name}: {quoted(str(value))}" for name, value in split.items() if name in BY_NAME))
