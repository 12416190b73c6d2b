"""Errors and limits for reading model files: every failure becomes a ModelError that names the file.

All readers keep the limits defined here. They are far above published files, and low enough that a hostile file takes
little time and memory.
"""
from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from animatediff.errors import AnimateDiffError, ModelError, end_of

MOST_TENSORS = 50_000
MOST_DIMENSIONS = 16
MOST_DEPTH = 16  # nesting of dictionaries
LONGEST_NAME = 1_000  # characters of a tensor's name
LARGEST_JSON = 16 * 2**20  # bytes; tokenizer files are the largest
_LONGEST_MESSAGE = 500  # characters
AGAIN = "Download it again, and compare its size with the one that the download page states."


class UnreadableError(ModelError):
    """The operating system cannot read the file at the moment; a later attempt may succeed."""


class NotWeights(Exception):
    """The file's pickle refers to an object that weights do not need. `name` is its full name."""

    def __init__(self, name: str):
        super().__init__(name)
        self.name = name


class Quantised(Exception):
    """The file's tensors are quantised to integers by torch."""


class Damaged(Exception):
    """The file is incomplete or in an unknown format. The message completes "FILE is truncated or damaged (…)"."""


@contextmanager
def reading(path: Path | str, remedy: str = AGAIN) -> Iterator[None]:
    """Context manager that turns any error inside into a ModelError; a GPU's OutOfMemoryError passes through.

    path: file that the message names. remedy: used if the file is damaged.
    """
    name = name_of(path)
    try:
        yield
    except AnimateDiffError as error:  # its message may quote unprintable or long text from the file
        parts = [printable(part) for part in (error.what, error.where, error.remedy)]
        if parts == [error.what, error.where, error.remedy] and len(error.what) <= _LONGEST_MESSAGE:
            raise
        raise type(error)(one_line(parts[0], _LONGEST_MESSAGE), where=parts[1], remedy=parts[2]) from error
    except NotWeights as error:
        raise ModelError(
            f"{name} holds pickled Python objects ({one_line(error.name)}), which can run code when they are loaded",
            remedy="Get a .safetensors version of it; files of that kind hold nothing but tensors.") from error
    except Quantised as error:
        raise ModelError(f"{name} holds quantised weights", remedy="Get it in fp32, fp16 or bf16.") from error
    except OSError as error:
        raise unreadable(path, error) from error
    except Exception as error:
        if type(error).__name__ == "OutOfMemoryError":  # the GPU's memory, not a problem of the file
            raise
        if isinstance(error, MemoryError) or "allocate memory" in str(error):
            raise ModelError(f"{name} does not fit into memory",
                             remedy="Close other programs, or use a smaller file.") from error
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else one_line(error)
        raise ModelError(f"{name} is truncated or damaged ({reason})", remedy=remedy) from error


def unreadable(path: Path | str, error: OSError) -> UnreadableError:
    """Return the UnreadableError for an OSError."""
    return UnreadableError(f"{name_of(path)} cannot be read ({error.strerror or one_line(error)})",
                           remedy="Check that you may read it, and that its disk is there.")


def name_of(path: Path | str) -> str:
    """Return the file's name for messages, printable and shortened."""
    return end_of(printable(Path(path).name or str(path)))


def printable(text: str) -> str:
    """Return the text with each unprintable character replaced by a question mark."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def one_line(error: object, most: int = 160) -> str:
    """Return the first line of an error's message, printable, without a final dot, at most `most` characters."""
    text = printable((str(error).strip().splitlines() or [type(error).__name__])[0]).rstrip(".")
    return text if len(text) <= most else f"{text[:most]} …"


def read_json(path: Path, remedy: str = "Restore the file.") -> dict[str, Any]:
    """Return the object in a JSON file, with or without a byte order mark. Raises ModelError if there is none."""
    with reading(path, remedy):
        if not path.is_file():
            raise ModelError(f"{name_of(path)} is missing or is not a file", where=str(path.parent), remedy=remedy)
        if path.stat().st_size > LARGEST_JSON:
            raise ModelError(f"{name_of(path)} is too large for a settings file", where=str(path.parent),
                             remedy=remedy)
        try:
            found = json.loads(path.read_text("utf-8-sig"))
        except (ValueError, RecursionError) as error:
            raise ModelError(f"{name_of(path)} is not valid JSON", where=str(path.parent), remedy=remedy) from error
    if not isinstance(found, dict):
        raise ModelError(f"{name_of(path)} contains no object with names", where=str(path.parent), remedy=remedy)
    return found
