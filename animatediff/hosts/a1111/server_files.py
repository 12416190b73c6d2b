"""The files of the server that a request may name.

Allowed are files in the folders that the WebUI's pages may read anyway (--gradio-allowed-path, by default the data
folder). Other paths are refused before the disk or the network is accessed, so the response does not reveal whether a
file exists. If the page serves only this machine, its user may name any file, as on the host's Batch tab.
"""
from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from modules import paths_internal, shared

from animatediff import user_paths
from animatediff.errors import MediaError
from animatediff.motion.library import inside
from animatediff.parameters import LONGEST

# Options that open the page to other users, or hide the server's folders from it.
CLOSING = ("webui_is_non_local", "gradio_auth", "gradio_auth_path", "hide_ui_dir_config")


def page_may_read_all() -> bool:
    """Whether the page's user may name any file: the page serves only this machine and asks for no password."""
    return not any(getattr(shared.cmd_opts, option, None) for option in CLOSING)


def job_may_read_all(p: Any) -> bool:
    """Whether a job of the host may name any file: it comes from the page, and the page may."""
    return not getattr(p, "is_api", True) and page_may_read_all()


def find(value: str, where: str, remedy: str, *, anywhere: bool = False) -> Path:
    """Return the path that a request names, with symbolic links resolved. MediaError if it leads elsewhere.

    Relative paths start in the allowed folders. The file need not exist.
    anywhere: whether any path is allowed, see `job_may_read_all`.
    """
    if len(value) > LONGEST or "\0" in value or not _has_whole_characters(value):
        raise MediaError("is not a possible file name", where=where, remedy=remedy)
    written = os.path.expanduser(value) if value.startswith(("~/", "~\\")) else value
    if anywhere:
        return Path(written)
    found = [path for folder in folders() if (path := _within(written, folder))]
    if not found:
        raise MediaError("this server does not read files there", where=where, remedy=remedy)
    return next(filter(user_paths.there, found), found[0])


def allowed(path: Path) -> bool:
    """Whether a file, with links resolved, lies in an allowed folder and is neither hidden nor blocked."""
    return _allowed(Path(os.path.realpath(path)))


def folders() -> list[Path]:
    """Return the absolute allowed folders, as written and with links resolved, in the search order of relative paths.
    """
    places = getattr(shared.cmd_opts, "gradio_allowed_path", None) or [paths_internal.data_path]
    return [Path(path) for place in places
            for path in dict.fromkeys((os.path.abspath(place), os.path.realpath(place)))]


def _within(written: str, folder: Path) -> Path | None:
    """Return the path if it leads into an allowed folder, else None.

    A path that is not written as one inside `folder` is not looked up: on Windows, a look-up may contact a server that
    the path names.
    """
    path = Path(os.path.abspath(folder / written))
    real = Path(os.path.realpath(path)) if inside(path, folder) else None
    return real if real and _allowed(real) else None


def _allowed(real: Path) -> bool:
    blocked = getattr(getattr(shared, "demo", None), "blocked_paths", None) or ()  # gradio's list
    if any(inside(real, place) or real == place for place in (Path(os.path.realpath(each)) for each in blocked)):
        return False
    return any(inside(real, folder) and not _is_hidden(real.relative_to(folder)) for folder in folders())


def _has_whole_characters(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
