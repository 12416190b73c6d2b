"""The pictures and files of a job's clips for the gallery and the API."""
from __future__ import annotations

import datetime
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from PIL import Image

from animatediff.clip.job import Clip, Job, Written, eight_bits
from animatediff.settings import Settings


class ClipPicture(Image.Image):
    """A clip in the place of a picture. It looks like the first frame.

    The page shows `already_saved_as`, the clip's file. Saving to a stream, as the API does, writes that file.
    """

    already_saved_as: str

    @classmethod
    def of(cls, frame: Image.Image, path: Path) -> ClipPicture:
        picture: Any = frame.copy()
        picture.__class__ = cls
        picture.info = dict(frame.info)
        picture.already_saved_as = str(path)
        return picture

    def save(self, fp: Any, format: str | None = None, **params: Any) -> None:
        if hasattr(fp, "write"):
            fp.write(Path(self.already_saved_as).read_bytes())
        else:
            super().save(fp, format, **params)


def folder(samples: str) -> Path:
    """Return AnimateDiff/DATE in the host's folder for this kind of picture."""
    return Path(samples) / "AnimateDiff" / datetime.date.today().isoformat()


def write(frames: Iterable[Any], clip: Clip) -> tuple[Written, Image.Image]:
    """Write a clip's frames as they come. Return the result and the first frame. An error keeps the frames so far."""
    files, first = Job(), None
    files.begin(clip)
    try:
        for frame in frames:
            first = first or Image.fromarray(eight_bits(frame))
            files.add(frame)
        written = files.finish()
    except BaseException as error:
        files.fail(error)
        raise
    assert written is not None and first is not None, "a clip has frames"
    return written, first


def clips(written: Written) -> list[Path]:
    """Return the files that play."""
    return [path for path in written.paths if path.parent == written.stem.parent and path.suffix != ".txt"]


def shows_frames(settings: Settings) -> bool:
    """Whether the result includes frames, beside or instead of the files that play. PNG and TXT do not play."""
    return settings.returns != "clip" or "Frame" in settings.formats or set(settings.formats) <= {"PNG", "TXT"}


def shown(written: Written, settings: Settings) -> list[Image.Image]:
    """Return the pictures of one clip: files that play, frames, or both. If nothing plays, return the frames."""
    play: list[Any] = [ClipPicture.of(written.held[0], path) for path in clips(written)]
    if play and not shows_frames(settings):
        return play
    stills = [path for path in written.paths if path.parent != written.stem.parent]
    frame: Any
    for frame, path in zip(written.held, stills):
        frame.already_saved_as = str(path)
    return written.held if settings.returns == "frames" else play + written.held
