"""Which of the server's files a request may name.

Those in the folders that the WebUI's pages may read anyway (--gradio-allowed-path, by default the data folder). What
lies elsewhere is refused without a look at the disk or the network, so the answer does not tell whether it is there.
The user of a page that serves this machine alone may name any file, as on the host's Batch tab.
"""
from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from modules import paths_internal, shared

from animatediff.errors import MediaError
from animatediff.motion.library import inside

LONGEST = 4096  # characters of a path
# Each opens the page to others than this machine's user, or hides the server's folders from it.
CLOSING = ("webui_is_non_local", "gradio_auth", "gradio_auth_path", "hide_ui_dir_config")


def page_may_read_all() -> bool:
    """Whether the pages' users may name any file: the page is this machine's alone, and asks for no password."""
    return not any(getattr(shared.cmd_opts, option, None) for option in CLOSING)


def job_may_read_all(p: Any) -> bool:
    """The same for a job of the host: one of the page, where the pages may."""
    return not getattr(p, "is_api", True) and page_may_read_all()


def find(value: str, where: str, remedy: str, *, anywhere: bool = False) -> Path:
    """The path that a request names, with its links followed; relative ones start in the allowed folders. MediaError
    for one that leads elsewhere. It need not be there. anywhere: as `job_may_read_all` says."""
    if len(value) > LONGEST or "\0" in value or not _has_whole_characters(value):
        raise MediaError("is not a possible file name", where=where, remedy=remedy)
    written = os.path.expanduser(value) if value.startswith(("~/", "~\\")) else value
    if anywhere:
        return Path(written)
    found = [path for folder in folders() if (path := _within(written, folder))]
    if not found:
        raise MediaError("this server does not read files there", where=where, remedy=remedy)
    return next((path for path in found if path.exists()), found[0])


def allowed(path: Path) -> bool:
    """Whether a file lies in an allowed folder, with its links followed, and is neither hidden nor blocked."""
    return _allowed(Path(os.path.realpath(path)))


def folders() -> list[Path]:
    """Absolute, as they are written and with links followed, in the order in which relative paths are looked for."""
    places = getattr(shared.cmd_opts, "gradio_allowed_path", None) or [paths_internal.data_path]
    return [Path(path) for place in places
            for path in dict.fromkeys((os.path.abspath(place), os.path.realpath(place)))]


def _within(written: str, folder: Path) -> Path | None:
    """The path, if it leads into an allowed folder. What is not even written as one inside of `folder` is not looked
    up: on Windows the look would go to a server that the path names."""
    path = Path(os.path.abspath(folder / written))
    real = Path(os.path.realpath(path)) if inside(path, folder) else None
    return real if real and _allowed(real) else None


def _allowed(real: Path) -> bool:
    blocked = getattr(getattr(shared, "demo", None), "blocked_paths", None) or ()  # as gradio has them
    if any(inside(real, place) or real == place for place in (Path(os.path.realpath(each)) for each in blocked)):
        return False
    return any(inside(real, folder) and not _is_hidden(real.relative_to(folder)) for folder in folders())


def _has_whole_characters(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
