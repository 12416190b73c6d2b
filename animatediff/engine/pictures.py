"""The pictures that a run starts from and ends with: from the settings' paths to latents."""
from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from animatediff.errors import MediaError, SettingsError
from animatediff.media import read
from animatediff.settings import BY_NAME, RESIZE_MODES, Settings

SOURCES = ("init", "last_frame")


@dataclass(frozen=True)
class Pictures:
    """uint8 [f h w 3] in the clip's size: `first`, one or one for each frame, and `last`, [0 h w 3] for none.

    more: whether the source has pictures beyond the clip's frames.
    """

    first: np.ndarray
    last: np.ndarray
    more: bool = False


def load(settings: Settings) -> Pictures | None:
    """None for a clip from noise alone. What cannot be read, or is too little, is told here, and nowhere later."""
    if not settings.init:
        if settings.last_frame:
            raise SettingsError("a clip that starts from noise cannot have one", where="last_frame",
                                remedy="Give a start picture with init as well.")
        return None
    found = _load(settings.init, settings.last_frame, settings.frames, settings.size, settings.resize_mode,
                  tuple(_state(getattr(settings, name)) for name in SOURCES))
    count = len(found.first)
    if count > 1 and settings.frames not in (0, count):
        raise SettingsError(f"{settings.frames} frames are asked for, but {settings.init} has {count} pictures",
                            where="frames", remedy=f"Set it to {count} or fewer, or give one picture.")
    if count > 1 and settings.last_frame:
        raise SettingsError(f"each frame has a picture of its own, the last one too, from {settings.init}",
                            where="last_frame", remedy="Leave it out, or give one picture to start from.")
    return found


def resolved(settings: Settings) -> Settings:
    """Frames and size, where the settings leave them to the pictures."""
    found = load(settings)
    if found is None:
        return settings
    count, height, width, _ = found.first.shape
    return replace(settings, size=f"{width}x{height}", frames=settings.frames or (count if count > 1 else 0))


def notices(settings: Settings, own_size: str) -> list[str]:
    """`own_size`: what the image model was made for."""
    found, said = load(settings), []
    if found is None:
        return said
    if found.more:
        said.append(f"{settings.init} has more pictures than the clip has frames; the first {settings.frames} are used")
    own = [int(side) for side in own_size.split("x")]
    if settings.width * settings.height > 4 * own[0] * own[1]:
        said.append(f"the clip has {settings.size} pixels, the image model was made for {own_size}; --size changes it")
    return said


def named(settings: Settings) -> dict[str, str]:
    """The sources as a file may name them: as they were written, or without folders that are nobody else's business."""
    return {name: value if not Path(value).is_absolute() else Path(value).name
            for name in SOURCES if (value := getattr(settings, name))}


def found_again(values: dict[str, Any], clip: str) -> dict[str, str]:
    """The sources that `clip` names, from here or from where it lies. MediaError where one is gone."""
    places = {}
    for name in SOURCES:
        value = values.get(name)
        if not value or not isinstance(value, str):
            continue
        candidates = [Path(value), Path(clip).parent / value, Path(clip).parent / Path(value).name]
        path = next((path for path in candidates if path.exists()), None)
        if path is None:
            raise MediaError(f"was made from the picture {value}, which is not here", where=clip,
                             remedy=f"Give it with {BY_NAME[name].cli} PATH")
        places[name] = str(path)
    return places


def metadata(settings: Settings) -> dict[str, Any]:
    """What a file says of its sources, by parameter: their names without folders, and what they look like."""
    found = load(settings)
    if found is None:
        return {}
    about = {}
    for name, pictures in zip(SOURCES, (found.first, found.last)):
        if len(pictures):
            about[name] = {"name": Path(getattr(settings, name)).name, "pictures": len(pictures),
                           "sha256": hashlib.sha256(pictures.tobytes()).hexdigest()}
    return about


def _size(settings_size: str, first: Any) -> tuple[int, int]:
    if settings_size:
        width, height = settings_size.split("x")
        return int(width), int(height)
    row = BY_NAME["size"]
    step = row.multiple_of
    sides = [max(int(row.minimum), round(side / step) * step) for side in first.size]
    row.read(sides, "size")
    return sides[0], sides[1]


@lru_cache(maxsize=2)
def _load(init: str, last_frame: str, frames: int, size: str, resize_mode: str, state: Any) -> Pictures:
    """`state`: of the files, so that changed ones are read again."""
    crop = resize_mode == RESIZE_MODES[0]
    source = read.pictures(init)
    first = next(source)
    width, height = _size(size, first)

    def arrays(images: Iterator[Any]) -> Iterator[np.ndarray]:
        for image in images:
            yield np.asarray(read.fitted(image, width, height, crop=crop))

    rows, more = [*arrays(iter([first]))], False
    for array in arrays(source):
        if more := bool(frames) and len(rows) >= frames:
            break
        rows.append(array)
    last = [next(arrays(read.pictures(last_frame)))] if last_frame else []
    return Pictures(np.stack(rows), np.stack(last) if last else np.empty((0, height, width, 3), np.uint8), more)


def _state(path: str) -> Any:
    """Of a file or of a folder's files."""
    try:
        files = sorted(Path(path).iterdir()) if path and Path(path).is_dir() else [Path(path)] if path else []
        return tuple((str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in files)
    except OSError as error:
        raise MediaError(f"cannot be read ({error.strerror})", where=path,
                         remedy="Give a picture, a folder of pictures, or a video") from error
