"""Read and check the pictures that a clip starts from and ends with, and resize them to the clip's size."""
from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain, starmap
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from animatediff import user_paths
from animatediff.clip import source, writing
from animatediff.clip.source import ChangeMask, SourceFrames
from animatediff.errors import MediaError, SettingsError
from animatediff.media import read as media
from animatediff.media.source import Source
from animatediff.media.stored import StoredPictures
from animatediff.media.transparency import AlphaChannels, parted
from animatediff.settings import BY_NAME, Settings

NAMES = source.NAMES
SOURCES = (*NAMES, "last_frame", "mask_path")
Enlarged = Callable[[Image.Image], np.ndarray]  # resizes a picture, see clip.enlargement.Enlargement.load


@dataclass(frozen=True)
class Pictures:
    """The pictures of a clip, uint8, in the clip's size, or smaller if their latents are enlarged afterwards."""

    first: StoredPictures  # [f h w 3], one start picture or one for each frame
    last: np.ndarray  # [1 h w 3], or [0 h w 3] without a last frame
    source: SourceFrames  # origin of `first`
    mask: ChangeMask | None  # where the clip may change, None for everywhere
    digests: dict[str, str]  # SHA-256 of the pixels, by the names of the parameters
    alpha: StoredPictures | None = None  # [f h w] of `first`, in the clip's size; None for opaque pictures

    def of(self, settings: Settings) -> Settings:
        """Return the settings, with number of frames, rate and size from the pictures if they are not given."""
        count, height, width, _ = self.first.shape
        return replace(settings, size=settings.size or f"{width}x{height}",
                       frames=settings.frames or (count if count > 1 else 0), fps=settings.played_fps(self.source.fps))

    def kept(self, picture: np.ndarray, frame: int) -> np.ndarray:
        """Return a finished frame of the clip, with the source's pixels where the mask is black."""
        if self.mask is None:
            return picture
        return self.mask.composed(picture, self.first[frame if len(self.first) > 1 else 0], frame)


    def alpha_of(self, playback: Sequence[int]) -> Callable[[int], np.ndarray] | None:
        """Return a function from a place in `playback` to the frame's alpha channel, [h w]; None for an opaque clip.
        A clip with a last frame is opaque."""
        alpha = self.alpha
        if alpha is None or len(self.last):
            return None
        return lambda place: alpha[playback[place] if len(alpha) > 1 else 0]


def check(settings: Settings, count: int, source: str) -> None:
    """Raise SettingsError if the settings do not fit the start pictures.

    count: number of start pictures, 0 for none. source: where they come from, for the message.
    """
    if not count and settings.last_frame:
        raise SettingsError("it needs a start picture", where="last_frame",
                            remedy="Give a start picture as well.")
    if not count and settings.mask_path:
        raise SettingsError("it needs a source video or a start picture", where="mask_path",
                            remedy="Give one as well.")
    if count > 1 and settings.frames not in (0, count):
        raise SettingsError(f"{settings.frames} frames are asked for, but {source} has {count} pictures",
                            where="frames", remedy=f"Set it to 0 or {count}, or give one picture.")
    if count > 1 and settings.last_frame:
        raise SettingsError(f"every frame already has its own picture, also the last one, from {source}",
                            where="last_frame", remedy="Leave it out, or give one picture to start from.")
    if settings.mask_path and settings.last_frame:
        raise SettingsError("a mask keeps parts of the source, and the last frame is another picture",
                            where="last_frame", remedy="Leave one of the two out.")


def read(settings: Settings, enlarged: Enlarged | None = None) -> Pictures | None:
    """Read the pictures that the settings name. Returns None for a clip from noise alone.

    enlarged: resizes the start pictures instead of the settings' `fit`.
    Raises MediaError if a picture cannot be read, and SettingsError as `check`.
    """
    found = SourceFrames.of(settings)
    check(settings, found.count if found else 0, found.path if found else "")
    if found is None:
        return None
    images = found.source.pictures(found.chosen.indices, parted)
    begin = next(images)
    size = _size(settings.size, begin[0])
    fit = enlarged or (lambda image: np.asarray(media.fitted(image, *size, settings.fit)))
    channels = AlphaChannels(size, settings.fit)

    def brought(image: Image.Image, alpha: Image.Image | None) -> np.ndarray:
        channels.add(alpha, image.size)
        return fit(image)

    first = StoredPictures(starmap(brought, chain([begin], images)))
    last, mask, digests = np.empty((0, *first.shape[1:]), np.uint8), None, {found.name: first.sha256}
    if settings.last_frame:
        picture = next(Source.open(settings.last_frame).pictures([0]))
        last = np.asarray(media.fitted(picture, *size, settings.fit))[None]
        digests["last_frame"] = hashlib.sha256(last.tobytes()).hexdigest()
    if settings.mask_path:
        count = found.count if found.count > 1 else settings.frame_count()
        mask = ChangeMask.read(settings.mask_path, found, count, size, settings.fit)
        digests["mask_path"] = mask.pictures.sha256
    return Pictures(first, last, found, mask, digests, channels.pictures)


def notices(settings: Settings, found: Pictures | None, own_size: str) -> list[str]:
    """Return notices on the pictures and the clip's size. own_size: the image model's native size, WIDTHxHEIGHT."""
    if found is None:
        return []
    said = [*found.mask.notices] if found.mask else []
    if found.alpha is not None:
        said += writing.of_transparency(settings)
    own = [int(side) for side in own_size.split("x")]
    if settings.width * settings.height > 4 * own[0] * own[1]:
        said.append(f"the clip has {settings.size} pixels, the image model was made for {own_size}; --size changes it")
    return said


def named(settings: Settings) -> dict[str, str]:
    """Return the sources as they are named in a file: relative paths as written, absolute ones without folders.

    Folders are left out for privacy.
    """
    return {name: value if not Path(value).is_absolute() else Path(value).name
            for name in SOURCES if (value := getattr(settings, name))}


def found_again(values: dict[str, Any], clip: str) -> dict[str, str]:
    """Return the paths of the sources that `clip` names, searched in the current folder and beside the clip.

    Raises MediaError if one is missing.
    """
    places = {}
    for name in SOURCES:
        value = values.get(name)
        if not value or not isinstance(value, str):
            continue
        candidates = [user_paths.named(value), Path(clip).parent / value, Path(clip).parent / Path(value).name]
        path = next(filter(user_paths.there, candidates), None)
        if path is None:
            flag = BY_NAME[name].cli or BY_NAME["video_path"].cli
            raise MediaError(f"was made from the picture {value}, which is not here", where=clip,
                             remedy=f"Give it with {flag} PATH")
        places[name] = str(path)
    return places


def metadata(settings: Settings, found: Pictures | None) -> dict[str, Any]:
    """Return what a file stores about its sources, by parameter: name without folders, count, and SHA-256 of pixels."""
    if found is None:
        return {}
    counts = {"last_frame": len(found.last), "mask_path": len(found.mask.pictures) if found.mask else 0}
    about: dict[str, Any] = {
        name: {"name": Path(getattr(settings, name)).name, "pictures": counts.get(name, len(found.first)),
               "sha256": digest} for name, digest in found.digests.items()}
    if found.source.count > 1:
        about[found.source.name]["frames"] = found.source.chosen.description
    return about


def _size(asked: str, first: Image.Image) -> tuple[int, int]:
    """Return the clip's width and height: `asked`, or the first picture's rounded to the image model's multiple."""
    if asked:
        width, height = asked.split("x")
        return int(width), int(height)
    row = BY_NAME["size"]
    step = row.multiple_of
    sides = [max(int(row.minimum or step), round(side / step) * step) for side in first.size]
    row.read(sides, "size")
    return sides[0], sides[1]
