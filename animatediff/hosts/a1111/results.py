"""From a job's frames to files, and to what the gallery and the API get of them."""
from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modules import images
from PIL import Image

from animatediff import windows
from animatediff.errors import AnimateDiffError, MediaError
from animatediff.media.write import WRITERS, ClipWriter
from animatediff.media.write.base import WriteError, WriteOptions
from animatediff.settings import Settings


@dataclass
class Saved:
    """One clip on disk: its frames in the order of playback, the files that play, and the frames' files."""

    frames: list[Image.Image]
    infotext: str
    paths: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    where: Path = Path()

    @property
    def clips(self) -> list[Path]:
        return [path for path in self.paths if path.parent == self.where and path.suffix != ".txt"]

    @property
    def stills(self) -> list[Path]:
        return [path for path in self.paths if path.parent != self.where]


class ClipPicture(Image.Image):
    """A clip where the host expects a picture: it looks like the first frame; the page shows `already_saved_as`, the
    clip's file, and what is written to a stream (the API's answer) is that file."""

    already_saved_as: str

    @classmethod
    def of(cls, frame: Image.Image, path: Path) -> ClipPicture:
        picture = frame.copy()
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
    """AnimateDiff/DATE in the host's folder for this kind of picture."""
    return Path(samples) / "AnimateDiff" / datetime.date.today().isoformat()


def write(frames: Sequence[Image.Image], settings: Settings, where: Path, seed: int, infotext: str,
          options: WriteOptions | None = None) -> Saved:
    """Write one clip; what cannot be written is said in `notes`, and the rest is there."""
    order = windows.playback(len(frames), settings.context_length, settings.closed_loop)
    saved = Saved([frames[i] for i in order], infotext, where=where)
    formats = [name for name in settings.formats if name in WRITERS]
    if not formats:
        return saved
    try:
        where.mkdir(parents=True, exist_ok=True)
        number = images.get_next_sequence_number(str(where), "")
        name = "-".join(filter(None, (f"{number:05}", str(seed), settings.request_id)))
        with ClipWriter(f"{where}/", formats, settings.fps, settings.loop_number, infotext, name=name,
                        options=options) as clip:
            for frame in saved.frames:
                clip.add(frame)
            saved.paths = clip.close()
            saved.notes += clip.notes
    except WriteError as error:
        saved.paths = error.kept
        saved.notes.append(str(error))
    except AnimateDiffError as error:
        saved.notes.append(str(error))
    except OSError as error:
        saved.notes.append(str(MediaError(f"the clip was not written ({error})", where=str(where))))
    return saved


def shown(saved: Saved, settings: Settings) -> list[Image.Image]:
    """What the gallery and the API get of one clip: files that play, frames, or both; frames where nothing plays."""
    clips = [ClipPicture.of(saved.frames[0], path) for path in saved.clips]
    if clips and settings.returns == "clip" and "Frame" not in settings.formats:
        return clips
    for frame, path in zip(saved.frames, saved.stills):
        frame.already_saved_as = str(path)
    return saved.frames if settings.returns == "frames" else clips + saved.frames
