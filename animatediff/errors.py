"""Errors that a user can act on: what happened, where, and the remedy."""
from __future__ import annotations


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


class SettingsError(AnimateDiffError):
    """A parameter has an unknown name or a value outside its range."""

    exit_code = 2


class ModelError(AnimateDiffError):
    """A checkpoint or motion module cannot be read, or the two do not fit."""

    exit_code = 3


class MediaError(AnimateDiffError):
    """A picture, clip or encoder cannot be read, written or found."""

    exit_code = 4


class FormatError(MediaError):
    """A format's name, or the ending of a file to write, is none of those that there are."""

    exit_code = 2
