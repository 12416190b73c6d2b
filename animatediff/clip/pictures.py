"""The pictures that a clip starts from and ends with: read once, brought to the clip's size, and what is refused."""
from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from animatediff import user_paths
from animatediff.errors import MediaError, SettingsError
from animatediff.media import read as media
from animatediff.settings import BY_NAME, RESIZE_MODES, Settings

SOURCES = ("init", "last_frame")
Enlarged = Callable[[Image.Image], np.ndarray]  # a picture, in the clip's size or in one that the VAE enlarges


@dataclass(frozen=True)
class Pictures:
    """uint8 [f h w 3] in the clip's size, or in one whose latents are enlarged to it: `first`, one or one for each
    frame, and `last`, [0 h w 3] for none.

    Several lie in a temporary file, not in memory. more: whether the source has pictures beyond the clip's frames.
    digests: SHA-256 of the pixels of each source, by the parameter that names it.
    """

    first: np.ndarray
    last: np.ndarray
    more: bool
    digests: dict[str, str]

    def of(self, settings: Settings) -> Settings:
        """The settings, with frames and size from the pictures where they leave them open."""
        count, height, width, _ = self.first.shape
        return replace(settings, size=settings.size or f"{width}x{height}",
                       frames=settings.frames or (count if count > 1 else 0))


def check(settings: Settings, count: int, source: str) -> None:
    """Refuse what the settings ask of `count` start pictures, which come from `source`; 0 for none."""
    if not count and settings.last_frame:
        raise SettingsError("it needs a start picture", where="last_frame",
                            remedy="Give a start picture as well.")
    if count > 1 and settings.frames not in (0, count):
        raise SettingsError(f"{settings.frames} frames are asked for, but {source} has {count} pictures",
                            where="frames", remedy=f"Set it to 0 or {count}, or give one picture.")
    if count > 1 and settings.last_frame:
        raise SettingsError(f"every frame already has its own picture, also the last one, from {source}",
                            where="last_frame", remedy="Leave it out, or give one picture to start from.")


def read(settings: Settings, enlarged: Enlarged | None = None) -> Pictures | None:
    """None for a clip from noise alone. MediaError for what cannot be read; SettingsError as `check`. enlarged: brings
    start pictures to the clip's size in another way."""
    if not settings.init:
        check(settings, 0, "")
        return None
    source = _opened(settings.init)
    begin = next(source)
    size = _size(settings.size, begin)
    crop = settings.resize_mode == RESIZE_MODES[0]
    fit = enlarged or (lambda image: np.asarray(media.fitted(image, *size, crop=crop)))
    first, digest, more = _stacked(map(fit, chain([begin], source)), settings.frames)
    check(settings, len(first), settings.init)
    last, digests = first[:0], {"init": digest}
    if settings.last_frame:
        last = np.asarray(media.fitted(next(_opened(settings.last_frame)), *size, crop=crop))[None]
        digests["last_frame"] = hashlib.sha256(last.tobytes()).hexdigest()
    return Pictures(first, last, more, digests)


def notices(settings: Settings, found: Pictures | None, own_size: str) -> list[str]:
    """`own_size`: what the image model was made for."""
    said = []
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
        path = next(filter(user_paths.there, candidates), None)
        if path is None:
            raise MediaError(f"was made from the picture {value}, which is not here", where=clip,
                             remedy=f"Give it with {BY_NAME[name].cli} PATH")
        places[name] = str(path)
    return places


def metadata(settings: Settings, found: Pictures | None) -> dict[str, Any]:
    """What a file says of its sources, by parameter: their names without folders, and what they look like."""
    if found is None:
        return {}
    counts = {"init": len(found.first), "last_frame": len(found.last)}
    return {name: {"name": Path(getattr(settings, name)).name, "pictures": counts[name], "sha256": digest}
            for name, digest in found.digests.items()}


def _opened(path: str) -> Iterator[Image.Image]:
    try:
        if Path(path).is_dir():
            next(Path(path).iterdir(), None)
    except OSError as error:
        raise MediaError(f"cannot be read ({error.strerror})", where=path,
                         remedy="Give a picture, a folder of pictures, or a video") from error
    return media.pictures(path)


def _size(asked: str, first: Image.Image) -> tuple[int, int]:
    """Width and height of the clip: as asked, or the first picture's, to a multiple that the image model takes."""
    if asked:
        width, height = asked.split("x")
        return int(width), int(height)
    row = BY_NAME["size"]
    step = row.multiple_of
    sides = [max(int(row.minimum or step), round(side / step) * step) for side in first.size]
    row.read(sides, "size")
    return sides[0], sides[1]


def _stacked(pictures: Iterator[np.ndarray], frames: int) -> tuple[np.ndarray, str, bool]:
    """[f h w 3] of the pictures, at most `frames` (0: all), their digest, and whether there are more. Several are kept
    in a temporary file, which goes with the array: a video is long."""
    one = next(pictures)
    digest, count, more = hashlib.sha256(one.tobytes()), 1, False
    another = next(pictures, None)
    if another is None or frames == 1:
        return one[None], digest.hexdigest(), another is not None
    try:
        with tempfile.TemporaryFile(prefix="animatediff") as file:
            file.write(one.tobytes())
            for picture in chain([another], pictures):
                if more := bool(frames) and count >= frames:
                    break
                data = picture.tobytes()
                digest.update(data)
                file.write(data)
                count += 1
            file.flush()
            return np.memmap(file, np.uint8, "r", shape=(count, *one.shape)), digest.hexdigest(), more
    except OSError as error:
        raise MediaError(f"{count} pictures were read, and no more could be stored ({error.strerror or error})",
                         where=tempfile.gettempdir(), remedy="Free the disk, or ask for fewer frames") from error
