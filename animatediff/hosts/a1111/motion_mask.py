"""The motion mask of a clip: a path, a picture or video in a request, or a mask painted on the page.

Masks from requests and the page are kept in a folder under a hash of their bytes; settings and infotexts contain that
name. The file of a path is read as a picture or a video and never shown; `server_files` says which paths are allowed.
"""
from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from animatediff.hosts.a1111 import server_files
from animatediff.hosts.a1111.kept import KeptFiles
from animatediff.media import masks
from animatediff.media import read as media
from animatediff.motion import Mask

NAME = "motion_mask"
KEPT = KeptFiles("AnimateDiff-masks", "motion mask")
IN_REQUEST = "Send a picture or a video in base64 or as a data URI, or the path of one."
ELSEWHERE = ("Paint the mask on the page, send it in base64, or start the WebUI with --gradio-allowed-path and the "
             "file's folder.")


def folder() -> Path:
    """Return the folder for masks that came without a file."""
    return KEPT.folder


def read(value: str, frames: int, *, anywhere: bool = False) -> Mask | None:
    """Return the masks of a clip, or None. MediaError for an unusable `value`.

    anywhere: whether a path may lead to any file; see server_files.
    """
    if not value:
        return None
    if data := media.embedded(value, NAME, IN_REQUEST):
        return Mask(*masks.read(data, frames))
    path = find(value, anywhere=anywhere)
    try:
        state = path.stat()
    except (OSError, ValueError):
        return Mask(*masks.read(path, frames, value))  # raises the error
    return _read(path, value, frames, state.st_mtime_ns, state.st_size)


def named(value: str) -> str:
    """Return the name of a mask for the clip's settings. A picture of a request is kept under this name."""
    data = media.embedded(value, NAME, IN_REQUEST)
    return keep(data) if data else masks.without_home(value)


def keep(data: bytes) -> str:
    """Save the file of a picture or video for later clips. Return its name."""
    return KEPT.keep(data)


def find(value: str, *, anywhere: bool = False) -> Path:
    """Return the file of a name or a path."""
    return KEPT.find(value) or server_files.find(value, "motion mask", ELSEWHERE, anywhere=anywhere)


@lru_cache(maxsize=4)
def _read(path: Path, name: str, frames: int, *state: Any) -> Mask:
    """Return the mask. state: modification time and size of the file. A changed file is read again."""
    return Mask(*masks.read(path, frames, name))
