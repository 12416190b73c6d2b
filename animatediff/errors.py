"""Errors for users. Each says what happened, where, and what to do about it."""
from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def quoted(value: object, most: int = 60) -> str:
    """Return the value's repr for an error message, cut to `most` characters and " …" if it is longer."""
    try:
        text = repr(value[:most + 1] if isinstance(value, (str, bytes)) else value)
    except (RecursionError, ValueError):  # deeply nested lists, or an int with too many digits
        text = f"<{type(value).__name__}>"
    return text if len(text) <= most else f"{text[:most]} …"


def end_of(path: object, most: int = 120) -> str:
    """Return the path for an error message. If it is longer than `most` characters: "… " and its end."""
    text = str(path)
    return text if len(text) <= most else f"… {text[-most:]}"


def renamed(text: str, names: Mapping[str, str]) -> str:
    """Return the text with parameter names replaced by a face's own names, such as flags or labels.

    Only names with an underscore are replaced. Others, such as "size", may be ordinary words.
    """
    words = "|".join(re.escape(name) for name in names if "_" in name)
    return re.sub(rf"\b({words})\b", lambda name: names[name[0]], text) if words else text


class AnimateDiffError(Exception):
    """Base of all errors that are shown to users.

    what: what happened.
    where: the file, key or place.
    remedy: what to do about it.
    """

    exit_code = 1  # of the command line
    http_status = 422  # of an API's response

    def __init__(self, what: str, *, where: str = "", remedy: str = ""):
        self.what, self.where, self.remedy = what, where, remedy
        super().__init__(what, where, remedy)

    def __str__(self) -> str:
        text = f"{end_of(self.where, 300)}: {self.what}" if self.where else self.what
        text = f"{text}. {self.remedy}" if self.remedy else text
        return text.encode("utf-8", "backslashreplace").decode()  # escapes surrogates, which cannot be encoded

    def named(self, names: Mapping[str, str]) -> AnimateDiffError:
        """Return this error with a face's own names of parameters, such as flags or labels."""
        return type(self)(self.what, where=names.get(self.where, self.where), remedy=self.remedy)


class SettingsError(AnimateDiffError):
    """A parameter has an unknown name or a value outside its range."""

    exit_code = 2

    def named(self, names: Mapping[str, str]) -> AnimateDiffError:
        """Return this error with a face's own names of parameters, in the remedy as well."""
        return type(self)(self.what, where=names.get(self.where, self.where), remedy=renamed(self.remedy, names))


class ModelError(AnimateDiffError):
    """A checkpoint or motion module cannot be read, or the two do not fit together."""

    exit_code = 3


class MediaError(AnimateDiffError):
    """A picture, clip or encoder cannot be read, written or found."""

    exit_code = 4


class FormatError(MediaError):
    """The name of a format, or the extension of an output file, is unknown."""

    exit_code = 2
