"""Units of Forge Neo's built-in ControlNet, which have one picture and no folder.

`with_folder` gives a unit the folder that a request names, or the page's folder for all units. While ControlNet reads
what a unit has, `reading` gives it the unit's pictures one by one. Of several pictures it makes a hint for each frame.
"""
from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
from PIL import Image

from animatediff.attribute import attribute

FOLDER = "batch_image_dir"  # the name in Forge
READ = "get_input_data"
PAGES_FOLDER = "GLOBAL_CONTROLNET_BATCH_DIR"
Pictures = Sequence[tuple[Any, Sequence[str]]]  # units and the files of their pictures


def known(value: Any) -> bool:
    """Whether this is a unit of a ControlNet whose units have no folder."""
    kind = getattr(sys.modules.get("lib_controlnet.external_code"), "ControlNetUnit", None)
    return kind is not None and isinstance(value, kind) and not hasattr(kind, FOLDER)


def with_folder(unit: Any, asked: Mapping[str, Any] | None = None) -> Any:
    """Return the unit with its folder, which ControlNet's own class leaves out.

    asked: the unit in a request. The page's folder has priority, as in ControlNet.
    """
    if known(unit):
        pages = getattr(_page(), PAGES_FOLDER, "").strip()
        if os.path.isdir(pages):
            unit.image = None
        else:
            pages = ""
        setattr(unit, FOLDER, pages or (asked or {}).get(FOLDER) or "")
    return unit


@contextmanager
def reading(script: Any, pictures: Pictures) -> Iterator[None]:
    """Let ControlNet read all pictures of these units, inside the block."""
    plain = getattr(script, READ)

    def get_input_data(p: Any, unit: Any, *args: Any, **kwargs: Any) -> Any:
        files = next((files for one, files in pictures if one is unit), None)
        if not files:
            return plain(p, unit, *args, **kwargs)
        with _without_pages_folder():
            read = [_one(plain, p, unit, file, *args, **kwargs) for file in files]
        return [pair for pairs, _ in read for pair in pairs], read[-1][1]

    with attribute(script, READ, get_input_data):
        yield


def _one(plain: Callable[..., Any], p: Any, unit: Any, file: str, *args: Any, **kwargs: Any) -> Any:
    with Image.open(file) as picture:
        pixels = np.array(picture.convert("RGB"))
    unpainted = np.zeros((*pixels.shape[:2], 4), np.uint8)  # without it, ControlNet fails at a black picture
    with attribute(unit, "image", pixels), attribute(unit, "image_fg", unpainted), \
            attribute(unit, "use_preview_as_input", False):
        return plain(p, unit, *args, **kwargs)


def _page() -> Any:
    return getattr(sys.modules.get("lib_controlnet.controlnet_ui.controlnet_ui_group"), "ControlNetUiGroup", None)


def _without_pages_folder() -> Any:
    page = _page()
    return nullcontext() if page is None else attribute(page, PAGES_FOLDER, "")
