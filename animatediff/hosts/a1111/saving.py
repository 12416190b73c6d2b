"""The buttons 💾 and 🗃️ under the gallery: a clip is saved as its file, not as its first frame.

The host opens each picture of the gallery and saves it again. Here a picture remembers the file that it was opened
from, and that file is copied under the host's new name.
"""
from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from functools import wraps
from pathlib import Path
from typing import Any

from modules import images, ui_common
from PIL import Image

from animatediff.attribute import wrapped

CLIP = "animatediff_clip"  # attribute of a picture: the file whose first frame it is


def saving_clips() -> AbstractContextManager[Any]:
    """Return a context manager. Inside it, the page saves clips as files."""
    stack = ExitStack()
    if hasattr(ui_common, "image_from_url_text"):
        stack.enter_context(wrapped(ui_common, "image_from_url_text", _remembering))
    else:  # Forge, where gradio opens the files
        stack.enter_context(wrapped(ui_common, "save_files", _marking))
    stack.enter_context(wrapped(images, "save_image", _copying))
    return stack


def _remembering(plain: Callable[[Any], Any]) -> Callable[[Any], Any]:
    @wraps(plain)
    def image_from_url_text(filedata: Any) -> Any:
        picture = plain(filedata)  # refuses files that the page may not read
        item = filedata[0] if isinstance(filedata, list) and filedata else filedata
        if isinstance(item, dict) and item.get("is_file") and picture is not None:
            return _marked(picture, Path(str(item["name"]).rsplit("?", 1)[0]))
        return picture

    return image_from_url_text


def _marking(plain: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(plain)
    def save_files(about: Any, pictures: Any, *args: Any) -> Any:
        return plain(about, pictures and [(_marked(picture, Path(getattr(picture, "filename", ""))), *rest)
                                          for picture, *rest in pictures], *args)

    return save_files


def _marked(picture: Any, path: Path) -> Any:
    """Return the first frame of a clip, which remembers its file; any other picture as it is. path: of the picture."""
    if not _plays(path):
        return picture
    frame = picture.convert("RGB")  # Forge and reForge write the infotext into the pixels, not possible with a palette
    setattr(frame, CLIP, path)
    return frame


def _copying(plain: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(plain)
    def save_image(image: Any, *args: Any, **kwargs: Any) -> Any:
        saved, text = plain(image, *args, **kwargs)
        clip = getattr(image, CLIP, None)
        if clip is None or not saved:
            return saved, text
        target = Path(saved).with_suffix(clip.suffix)
        shutil.copyfile(clip, target)
        if target != Path(saved):
            Path(saved).unlink(missing_ok=True)
        return str(target), text

    return save_image


def _plays(path: Path) -> bool:
    """Whether a file has more than one picture."""
    if path.suffix.lower() in (".mp4", ".webm", ".mov", ".mkv"):
        return True
    try:
        with Image.open(path) as picture:
            return getattr(picture, "n_frames", 1) > 1
    except OSError:
        return False
