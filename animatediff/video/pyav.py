"""PyAV (ffmpeg's libraries from PyPI), imported when a video is first needed."""
from __future__ import annotations

from types import ModuleType

from ..errors import MediaError

EXTRA = 'the extra "video" (pip install -e ".[video]" in the project\'s folder, or pip install av)'


def library() -> ModuleType:
    """The module `av`. MediaError says how to install it where it is not there."""
    try:
        import av
    except ImportError as error:
        raise MediaError(f"the package av (PyAV) cannot be imported ({error})", where="video",
                         remedy=f"Install {EXTRA}") from error
    return av
