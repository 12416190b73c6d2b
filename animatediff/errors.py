"""Errors that a user can act on: what happened, where, and the remedy."""
from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def quoted(value: object, most: int = 60) -> str:
    """`value` as an error quotes it: its repr, which ends in " …" where it is longer than `most` characters."""
    try:
        text = repr(value[:most + 1] if isinstance(value, (str, bytes)) else value)
    except (RecursionError, ValueError):  # lists in lists in lists, or a number of too many digits
        text = f"<{type(value).__name__}>"
    return text if len(text) <= most else f"{text[:most]} …"


def end_of(path: object, most: int = 120) -> str:
    """A path as an error names it: where it is longer than `most` characters, its end behind "… "."""
    text = str(path)
    return text if len(text) <= most else f"… {text[-most:]}"


def renamed(text: str, names: Mapping[str, str]) -> str:
    """A text with a face's own names of parameters, such as flags or labels. "size" may be just the word; what has an
    underscore is none."""
    words = "|".join(re.escape(name) for name in names if "_" in name)
    return re.sub(rf"\b({words})\b", lambda name: names[name[0]], text) if words else text


class AnimateDiffError(Exception):
    """Base of every error that is shown to users.

    `what` names the fact, `where` the file, key or place, `remedy` what to do about it. `exit_code` is
    the command line's; `http_status` what an API answers.
    """

    exit_code = 1
    http_status = 422

    def __init__(self, what: str, *, where: str = "", remedy: str = ""):
        self.what, self.where, self.remedy = what, where, remedy
        super().__init__(what, where, remedy)

    def __str__(self) -> str:
        text = f"{end_of(self.where, 300)}: {self.what}" if self.where else self.what
        text = f"{text}. {self.remedy}" if self.remedy else text
        return text.encode("utf-8", "backslashreplace").decode()  # half characters, which no answer could carry

    def named(self, names: Mapping[str, str]) -> AnimateDiffError:
        """This error with a face's own names of parameters, such as flags or labels."""
        return type(self)(self.what, where=names.get(self.where, self.where), remedy=self.remedy)


class SettingsError(AnimateDiffError):
    """A parameter has an unknown name or a value outside its range."""

    exit_code = 2

    def named(self, names: Mapping[str, str]) -> AnimateDiffError:
        """Only such an error's remedy always means parameters; "size" may be just the word."""
        return type(self)(self.what, where=names.get(self.where, self.where), remedy=renamed(self.remedy, names))


class ModelError(AnimateDiffError):
    """A checkpoint or motion module cannot be read, or the two do not fit."""

    exit_code = 3


class MediaError(AnimateDiffError):
    """A picture, clip or encoder cannot be read, written or found."""

    exit_code = 4


class FormatError(MediaError):
    """A format's name, or the ending of a file to write, is none of those that there are."""

    exit_code = 2
