"""The source video of a request and its mask: finding their files, and resizing their frames for the host.

A video that is uploaded or sent in a request is kept under a hash of its content; settings and infotexts contain that
name.
"""
from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from modules import images, shared
from PIL import Image

from animatediff.clip.source import ChangeMask, SourceFrames
from animatediff.hosts.a1111 import server_files
from animatediff.hosts.a1111.kept import ELSEWHERE, KeptFiles
from animatediff.hosts.a1111.pictures import LATENT_UPSCALE
from animatediff.media import masks, read
from animatediff.media.selection import Selection
from animatediff.media.source import Source
from animatediff.media.stored import StoredPictures
from animatediff.media.transparency import AlphaChannels
from animatediff.settings import Settings

IN_REQUEST = "Send a video in base64 or as a data URI, or the path of one."
MASK_IN_REQUEST = "Send a picture or a video in base64 or as a data URI, or the path of one."
KEPT = KeptFiles("AnimateDiff-sources", "source video")
Size = tuple[int, int]  # width and height


def named(settings: Settings) -> Settings:
    """Return the settings for infotexts: files in the request are kept under a name, and paths omit the home folder."""
    found = {"video_path": masks.without_home(settings.video_path)}
    for name, remedy in (("video_source", IN_REQUEST), ("mask_path", MASK_IN_REQUEST)):
        value = getattr(settings, name)
        data = read.embedded(value, name, remedy)
        found[name] = KEPT.keep(data) if data else masks.without_home(value)
    return replace(settings, **found)


@dataclass(frozen=True)
class SourceVideo:
    """The source video of a clip."""

    frames: SourceFrames  # the frames that the clip uses
    fit: str  # how frames are resized
    mask: Path | None = None  # file of the mask
    _sized: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def read(cls, settings: Settings, *, anywhere: bool) -> SourceVideo | None:
        """Return the source video, or None if the settings name none. MediaError or SettingsError for an unreadable
        one.

        settings: settings returned by `named`.
        anywhere: whether a path may lead to any file; see server_files.
        """
        name = next((name for name in ("video_path", "video_source") if getattr(settings, name)), None)
        if name is None:
            return None
        given = getattr(settings, name)
        found = _find(given, name, anywhere=anywhere)
        frames = SourceFrames.of(replace(settings, video_source="", video_path=str(found)), _open)
        mask = _find(settings.mask_path, "mask_path", anywhere=anywhere) if settings.mask_path else None
        return None if frames is None else cls(replace(frames, name=name, path=Path(given).name), settings.fit, mask)

    @classmethod
    def of_start_pictures(cls, p: Any, settings: Settings, *, anywhere: bool) -> SourceVideo | None:
        """Return the start pictures of img2img, in the clip's size, as a source with a mask. None without a mask."""
        if not (settings.mask_path and getattr(p, "init_images", None)):
            return None
        background = shared.opts.img2img_background_color
        mode, size = p.resize_mode % LATENT_UPSCALE, (p.width, p.height)
        given = [images.resize_image(mode, images.flatten(each, background), *size) for each in p.init_images]
        source = Source.of_images(given, "start pictures")
        frames = SourceFrames("init", "the request", source, Selection().of(source.timeline))
        return cls(frames, settings.fit, _find(settings.mask_path, "mask_path", anywhere=anywhere))

    @property
    def count(self) -> int:
        return self.frames.count

    def cut(self, frames: int) -> SourceVideo:
        """Return the source with only its first `frames` frames."""
        chosen = self.frames.chosen.cut(frames)
        more = self.frames.more or len(chosen.indices) < self.count
        return replace(self, frames=replace(self.frames, chosen=chosen, more=more))

    def pictures(self, size: Size) -> StoredPictures:
        """Return the frames in this size, uint8 [f h w 3]."""
        return self._read(size)[0]

    def alpha(self, size: Size) -> StoredPictures | None:
        """Return the alpha channels of the frames in this size, uint8 [f h w]; None if all are opaque."""
        return self._read(size)[1]

    def _read(self, size: Size) -> tuple[StoredPictures, StoredPictures | None]:
        if size not in self._sized:
            channels = AlphaChannels(size, self.fit)
            frames = StoredPictures(self.frames.pictures(channels))
            self._sized[size] = frames, channels.pictures
        return self._sized[size]

    def files(self, folder: Path) -> list[str]:
        """Write each frame, unchanged, to a file in this folder. Return the paths."""
        paths = []
        for number, picture in enumerate(self.frames.source.pictures(self.frames.chosen.indices)):
            path = folder / f"{number:06}.png"
            picture.save(path, compress_level=1)
            paths.append(str(path))
        return paths

    def change_mask(self, size: Size, frames: int) -> ChangeMask | None:
        """Return where a clip of `frames` frames may change, in this size, or None without a mask."""
        if self.mask is None:
            return None
        if (size, frames) not in self._sized:
            self._sized[size, frames] = ChangeMask.read(str(self.mask), self.frames, frames, size, self.fit)
        return self._sized[size, frames]

    def composed(self, picture: Image.Image, frame: int, frames: int) -> Image.Image:
        """Return a finished frame with the source's own pixels where the mask is black.

        frame: index of the frame.
        frames: number of frames in the clip.
        """
        mask = self.change_mask(picture.size, frames)
        if mask is None:
            return picture
        own = self.pictures(picture.size)
        pixels = mask.composed(np.asarray(picture.convert("RGB")), own[frame if len(own) > 1 else 0], frame)
        made = Image.fromarray(pixels)
        made.info = dict(picture.info)
        return made


def _find(value: str, name: str, *, anywhere: bool) -> Path:
    return KEPT.find(value) or server_files.find(value, name, ELSEWHERE, anywhere=anywhere)


def _open(path: str) -> Source:
    try:
        state = Path(path).stat()
    except (OSError, ValueError):
        return Source.open(path)  # raises the error
    return _opened(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=4)
def _opened(path: str, *state: int) -> Source:
    """Return the source. It is cached, since the page's lines need it after each change of a control.

    state: modification time and size of the file. A changed file is read again.
    """
    return Source.open(path)
