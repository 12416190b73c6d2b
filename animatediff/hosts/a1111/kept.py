"""Files from requests, kept under a hash of their content, so that later clips can use them again."""
from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from modules import paths_internal, shared

from animatediff import disk
from animatediff.clip.resume import content
from animatediff.errors import MediaError
from animatediff.media import opening
from animatediff.motion.library import inside

NAME = re.compile(r"[0-9a-f]{16}\.\w{1,5}", re.ASCII)
REMEDY = "Free the disk, or make the folder writable"


@dataclass(frozen=True)
class KeptFiles:
    """A folder of kept files."""

    name: str  # of the folder, below `outputs`
    what: str  # the kind of file, for messages

    @property
    def folder(self) -> Path:
        return Path(paths_internal.data_path) / "outputs" / self.name

    def find(self, name: str) -> Path | None:
        """Return the file of a name returned by `keep` or `copy`, or None for another text or a missing file."""
        file = self.folder / name if NAME.fullmatch(name) else None
        return file if file and file.is_file() and not file.is_symlink() else None

    def keep(self, data: bytes) -> str:
        """Save a file's bytes. Return its name."""
        file = self.folder / f"{hashlib.sha256(data).hexdigest()[:16]}.{opening.ending(data)}"
        if not file.is_file():
            try:
                disk.make_folder(file.parent)
                disk.write(file, data)
            except OSError as error:
                raise self._not_kept(error, file) from error
        return file.name

    def copy(self, path: Path) -> str:
        """Save a copy of a file, which may be large. Return its name."""
        with open(path, "rb") as source:
            ending = opening.ending(source.read(opening.HEAD))
            if not ending:
                raise MediaError("is neither a picture nor a video", where=self.what, remedy=f"Give {opening.READ}")
            file = self.folder / f"{content(path)[:16]}.{ending}"
            if file.is_file():
                return file.name
            source.seek(0)
            try:
                disk.make_folder(file.parent)
                part = disk.Part(file)
                try:
                    shutil.copyfileobj(source, part.file, 1 << 20)
                    part.keep()
                except BaseException:
                    part.drop()
                    raise
            except OSError as error:
                raise self._not_kept(error, file) from error
        return file.name

    def _not_kept(self, error: OSError, file: Path) -> MediaError:
        return MediaError(f"the {self.what} was not kept ({error.strerror})", where=str(file), remedy=REMEDY)


def is_uploaded(path: str) -> bool:
    """Whether the path is an upload that the page has stored."""
    given = getattr(getattr(shared, "opts", None), "temp_dir", "") or os.environ.get("GRADIO_TEMP_DIR")
    places = [given] if given else []
    places.append(os.path.join(tempfile.gettempdir(), "gradio"))
    real = Path(os.path.realpath(path))
    return any(inside(real, Path(os.path.realpath(place))) for place in places)
