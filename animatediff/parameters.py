"""A parameter of the settings: the values that it accepts, how they are parsed, and its errors."""
from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from fractions import Fraction
from numbers import Integral, Real
from typing import Any

from animatediff.curves import Curve
from animatediff.errors import SettingsError, quoted

WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
# Largest number of characters in a text, by `form`; LONGEST for names, paths and numbers. The size of a picture is
# limited when it is decoded.
LONGEST = 4096
LONGEST_OF = {"prose": 100_000, "curve": 1_000_000, "picture": 2**30, "mask": 2**30, "video": 2**30,
              "sound": 2**30}
MOST_ENTRIES = 100_000  # largest number of entries in a list
UNSAFE_IN_FILES = '/\\:*?"<>|'
NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
RATIO = re.compile(r"\d{1,9}/\d{1,9}", re.ASCII)
DEVICE = re.compile(r"cuda:[0-9]{1,2}")
SIZE = re.compile(r"\s*(\d{1,6})\s*[xX×]\s*(\d{1,6})\s*", re.ASCII)


@dataclass(frozen=True)
class Parameter:
    """A row of the table of settings.

    group: one of
      "clip": settings of the clip, which WebUI users also set here;
      "image": settings for which a WebUI has its own controls;
      "host": the device, memory and models of a run.

    form: what a str parameter contains, one of
      "size": WIDTHxHEIGHT in pixels, or empty;
      "file name": a part of a file name;
      "device": a choice, or a numbered device such as cuda:1;
      "prose": the user's own words;
      "picture": a file's path, or in an API the picture itself;
      "mask", "video": the same for a picture or video;
      "path": a path alone;
      "sound": the same for a sound file or a video with sound;
      "curve": a number, a list, key frames or an expression (see `curves`), with all values within the range.
    """

    name: str
    type: type  # bool, int, float, str, or tuple for a list of `choices`
    default: Any
    label: str
    help: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()  # names under which existing API clients send the parameter
    cli: str = ""  # its flag, "" if the command line has none
    group: str = "clip"
    form: str = ""
    multiple_of: int = 1
    spellings: tuple[tuple[str, str], ...] = ()  # (other spelling of a choice, choice)
    api_only: tuple[str, ...] = ()  # choices for API clients only; in the help, "CHOICE: …." describes each

    def for_people(self) -> Parameter:
        """Return the row as the command line and the page offer it: without choices for API clients."""
        text = self.help
        for choice in self.api_only:
            text = re.sub(rf" ?\b{re.escape(choice)}: [^.]*\.", "", text)
        return replace(self, choices=tuple(c for c in self.choices if c not in self.api_only), help=text)

    def read(self, value: Any, key: str = "") -> Any:
        """Return the value in this parameter's type and canonical spelling.

        key: the name that the caller used, for errors. Raise SettingsError for a value that is not accepted.
        """
        readers = {bool: self._bool, int: self._int, float: self._float, str: self._str, tuple: self._list}
        try:
            if isinstance(value, (str, bytes)) and len(value) > self.longest:
                raise _Refused(f"is too large: {len(value):,} characters, where {self.longest:,} are read")
            if isinstance(value, (list, tuple)) and len(value) > MOST_ENTRIES:
                raise _Refused(f"is too large: {len(value):,} entries, where {MOST_ENTRIES:,} are read")
            return readers[self.type](value)
        except _Refused as refused:
            raise SettingsError(f"{_shown(value)} {refused}", where=key or self.name,
                                remedy=self.remedy(value)) from None

    @property
    def longest(self) -> int:
        """Largest number of characters in a value."""
        return LONGEST_OF.get(self.form, LONGEST)

    @property
    def range(self) -> str:
        """The accepted values, as a phrase that follows "Use"."""
        if self.form == "size":
            return (f"WIDTHxHEIGHT in pixels, each a multiple of {self.multiple_of} from {self.minimum} to "
                    f"{self.maximum}, such as 512x768")
        if self.form == "file name":
            return f"at most {self.maximum} characters, none of {' '.join(UNSAFE_IN_FILES)}, no dot in front"
        if self.form == "curve":
            return (f"a number from {self.minimum} to {self.maximum}, one for each frame (1, 0.8, 0.6) or key frames "
                    "(0: 1, 8: 0.5, 100%: 1), or an expression (0.5 + audio(bass))")
        if self.form == "picture":
            return "a picture (a file's path on the command line; base64, a data URI in an API)"
        if self.form == "sound":
            return "a sound file or a video with sound (a file's path; in an API also base64 or a data URI), or none"
        if self.form in ("mask", "video"):
            return "a picture or video (a file's path; in an API also base64 or a data URI)"
        if self.form == "path":
            return "a path"
        if self.type is bool:
            return "true or false"
        if self.choices:
            return ("one or more of " if self.type is tuple else "one of ") + ", ".join(self.choices)
        if self.type is str:
            return "text"
        kind = "a whole number" if self.type is int else "a number"
        if self.maximum is None:
            return f"{kind}, {self.minimum} or more"
        return f"{kind} from {self.minimum} to {self.maximum}"

    def remedy(self, value: Any) -> str:
        """Return the remedy for a refused value: the most similar choice if there is one, and the range."""
        parts = [part for part in _parts(value) if isinstance(part, str) and len(part) < 100] if self.choices else []
        for part in parts[:10]:
            nearest = {_plain(choice): choice for choice in self.choices}
            close = get_close_matches(_plain(part), nearest, 1, 0.6)
            if close and _plain(part) not in nearest:
                return f"Did you mean {nearest[close[0]]}? Use {self.range}."
        default = "empty" if self.default == "" else _shown(self.default)
        return f"Use {self.range}; the default is {default}."

    def json_schema(self) -> dict[str, Any]:
        """Return this parameter as a property of a JSON schema (draft 2020-12)."""
        schema: dict[str, Any] = {"title": self.label, "description": self.help}
        if self.type is tuple:
            schema |= {"type": "array", "items": {"type": "string", "enum": list(self.choices)}, "minItems": 1,
                       "default": list(self.default)}
            return schema
        names = {bool: "boolean", int: "integer", float: "number", str: "string"}
        schema |= {"type": names[self.type], "default": self.default}
        if self.form == "device":
            schema["pattern"] = rf"^({'|'.join(self.choices)}|{DEVICE.pattern})$"
        elif self.form == "curve":
            schema["type"] = ["string", "number"]
        elif self.choices:
            schema["enum"] = list(self.choices)
        if self.form == "size":
            schema["pattern"] = r"^(\d{1,6}x\d{1,6})?$"
        elif self.form == "file name":
            schema |= {"maxLength": self.maximum, "pattern": r'^(?!\.)[^/\\:*?"<>|\x00-\x1f\x7f]*$'}
        elif self.type is str and not self.choices and self.form in ("", "prose", "path"):
            schema["maxLength"] = self.longest
        elif self.type in (int, float):
            schema |= {name: limit for name, limit in (("minimum", self.minimum), ("maximum", self.maximum))
                       if limit is not None}
        return schema

    def _bool(self, value: Any) -> bool:
        if isinstance(value, str) and value.strip().lower() in WORDS:
            return WORDS[value.strip().lower()]
        if not isinstance(value, bool):
            raise _Refused("is neither true nor false")
        return value

    def _int(self, value: Any) -> int:
        if isinstance(value, Integral) and not isinstance(value, bool):
            return self._in_range(int(value))
        number = self._number(value)
        if number != int(number):
            raise _Refused("is not a whole number")
        return self._in_range(int(number))

    def _float(self, value: Any) -> float:
        if isinstance(value, str) and RATIO.fullmatch(value.strip()) and int(value.split("/")[1]):
            return self._in_range(float(Fraction(value.strip())))  # ffmpeg writes frame rates such as 24000/1001
        return self._in_range(self._number(value))

    def _number(self, value: Any) -> float:
        """Return a finite number for a number or its text."""
        if isinstance(value, bool) or not isinstance(value, (Real, str)):
            raise _Refused("is not a number")
        if isinstance(value, str) and not NUMBER.fullmatch(value.strip()):
            raise _Refused("is not a number")
        try:
            # int is exact beyond 2^53.
            number = int(value) if isinstance(value, str) and value.strip().lstrip("+-").isdigit() else float(value)
        except (OverflowError, ValueError):
            raise _Refused("is too large") from None
        if isinstance(number, float) and not math.isfinite(number):
            raise _Refused("is not a finite number")
        return number

    def _in_range(self, number: float, type: type | None = None) -> Any:
        if (self.minimum is not None and number < self.minimum) or _above(number, self.maximum):
            raise _Refused("is out of range")
        try:
            return (type or self.type)(number)
        except OverflowError:
            raise _Refused("is too large") from None

    def _str(self, value: Any) -> str:
        if self.form == "size":
            return self._size(value)
        if self.form == "curve":
            return self._curve(value)
        if isinstance(value, os.PathLike):
            value = os.fspath(value)
        if isinstance(value, Integral) and not isinstance(value, bool):
            value = str(int(value))
        if not isinstance(value, str):
            raise _Refused("is not text")
        if self.choices:
            return self._choice(value)
        try:
            value.encode()
        except UnicodeEncodeError:
            raise _Refused("contains an incomplete character (an unpaired surrogate)") from None
        if "\0" in value:
            raise _Refused("holds a NUL character")
        if self.form == "file name" and (value.startswith(".") or _above(len(value), self.maximum) or any(
                c in UNSAFE_IN_FILES or ord(c) < 32 or ord(c) == 127 for c in value)):
            raise _Refused("cannot be part of a file name")
        return value

    def _curve(self, value: Any) -> str:
        """Return the curve as text, with numbers in their shortest form."""
        try:
            curve = Curve.read(value)
        except ValueError as error:
            raise _Refused(str(error)) from None
        for extreme in curve.extremes:
            self._in_range(extreme, float)
        return str(curve)

    def _choice(self, value: str) -> str:
        known = {_plain(text): choice for text, choice in (*zip(self.choices, self.choices), *self.spellings)}
        if _plain(value) in known:
            return known[_plain(value)]
        if self.form == "device" and DEVICE.fullmatch(value.strip().lower()):
            return value.strip().lower()
        raise _Refused("is unknown")

    def _list(self, value: Any) -> tuple[str, ...]:
        """Return the chosen entries, each once, in the table's order, so that equal choices are equal values."""
        parts = _parts(value)
        if not parts:
            raise _Refused("names none")
        for part in parts:
            if not isinstance(part, str):
                raise _Refused(f"holds {_shown(part)}, which is not text")
        try:
            chosen = {self._choice(part) for part in parts}
        except _Refused:
            known = {_plain(choice) for choice in self.choices}
            unknown = [part for part in parts if _plain(part) not in known]
            if {_plain(part) for part in unknown} <= {_plain(choice) for choice in self.api_only}:
                raise _Refused(f"holds {', '.join(map(_shown, unknown))}, which is for API clients only") from None
            raise _Refused(f"holds {', '.join(map(_shown, unknown))}, which is unknown") from None
        return tuple(choice for choice in self.choices if choice in chosen)

    def _size(self, value: Any) -> str:
        if value == "":
            return ""
        match = SIZE.fullmatch(value) if isinstance(value, str) else None
        if isinstance(value, (list, tuple)) and len(value) == 2:
            sides = [self._number(side) for side in value]
        elif match:
            sides = [int(side) for side in match.groups()]
        else:
            raise _Refused("is not a size")
        for side in sides:
            if side % self.multiple_of:
                raise _Refused(f"has a side that is not a multiple of {self.multiple_of}")
            self._in_range(side, float)
        return "x".join(str(int(side)) for side in sides)


class _Refused(Exception):
    """A value is refused. The message is the predicate of a sentence about it."""


def _above(number: float, most: float | None) -> bool:
    return most is not None and number > most


def _parts(value: Any) -> list[Any]:
    """Return the entries of a list or of a text with commas."""
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, Iterable) or isinstance(value, (bytes, dict)):
        return [value]
    flat: list[Any] = []
    for part in value:
        flat += [piece.strip() for piece in part.split(",") if piece.strip()] if isinstance(part, str) else [part]
    return flat


def _plain(text: Any) -> str:
    """Return a name for comparison: in lower case, with runs of blanks, hyphens and underscores as one blank."""
    return re.sub(r"[\s_-]+", " ", str(text).strip().lower())


def _shown(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # number fields of a page return floats
    return quoted(list(value) if isinstance(value, tuple) else value, 76)
