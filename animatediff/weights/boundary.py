"""The boundary to model files: whatever goes wrong while one is read is a ModelError that names it.

The limits that every reader keeps are here, too. They are far above what published files have, and low enough that a
hostile file costs little time and memory.
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
MOST_DEPTH = 16  # dictionaries in dictionaries
LONGEST_NAME = 1_000  # characters of a tensor's name
LARGEST_JSON = 16 * 2**20  # bytes, of which tokenizers' files have most
_LONGEST_MESSAGE = 500  # characters
AGAIN = "Download it again, and compare its size with the one that the download page states."


class UnreadableError(ModelError):
    """The system does not give the file, which may be otherwise in a moment."""


class NotWeights(Exception):
    """The file's pickle names something that no weights need: `.name`."""

    def __init__(self, name: str):
        super().__init__(name)
        self.name = name


class Damaged(Exception):
    """The file is not whole, or not of a known format. The text completes "FILE is truncated or damaged (…)"."""


@contextmanager
def reading(path: Path | str, remedy: str = AGAIN) -> Iterator[None]:
    """Raises ModelError for whatever goes wrong inside. remedy: for a damaged file."""
    name = name_of(path)
    try:
        yield
    except AnimateDiffError as error:  # which may quote a tensor's name, or a setting of the file
        parts = [printable(part) for part in (error.what, error.where, error.remedy)]
        if parts == [error.what, error.where, error.remedy] and len(error.what) <= _LONGEST_MESSAGE:
            raise
        raise type(error)(one_line(parts[0], _LONGEST_MESSAGE), where=parts[1], remedy=parts[2]) from error
    except NotWeights as error:
        raise ModelError(
            f"{name} holds pickled Python objects ({one_line(error.name)}), which can run code when they are loaded",
            remedy="Get a .safetensors version of it; files of that kind hold nothing but tensors.") from error
    except OSError as error:
        raise unreadable(path, error) from error
    except Exception as error:
        if type(error).__name__ == "OutOfMemoryError":  # of a GPU, which is not the file's fault
            raise
        if isinstance(error, MemoryError) or "allocate memory" in str(error):
            raise ModelError(f"{name} does not fit into memory",
                             remedy="Close other programs, or use a smaller file.") from error
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else one_line(error)
        raise ModelError(f"{name} is truncated or damaged ({reason})", remedy=remedy) from error


def unreadable(path: Path | str, error: OSError) -> UnreadableError:
    return UnreadableError(f"{name_of(path)} cannot be read ({error.strerror or one_line(error)})",
                           remedy="Check that you may read it, and that its disk is there.")


def name_of(path: Path | str) -> str:
    """A file's name as messages show it."""
    return end_of(printable(Path(path).name or str(path)))


def printable(text: str) -> str:
    """The text with a question mark for each character that is not to reach a terminal or a page."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def one_line(error: object, most: int = 160) -> str:
    """What an error says, as a part of a sentence."""
    text = printable((str(error).strip().splitlines() or [type(error).__name__])[0]).rstrip(".")
    return text if len(text) <= most else f"{text[:most]} …"


def read_json(path: Path, remedy: str = "Restore the file.") -> dict[str, Any]:
    """The object that a JSON file holds, with a byte order mark or without. ModelError where there is none."""
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
