"""Files from requests, kept under a hash of their content, so that later clips can use them again."""
from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from modules import paths_internal, shared

from animatediff import disk
from animatediff.clip.resume import content
from animatediff.errors import MediaError
from animatediff.hosts.a1111 import options
from animatediff.media import opening
from animatediff.media.opening import Kind
from animatediff.motion.library import inside

NAME = re.compile(r"[0-9a-f]{16}\.\w{1,5}", re.ASCII)
REMEDY = "Free the disk, or make the folder writable"
ELSEWHERE = "Upload it on the page, send it in base64, or start the WebUI with --gradio-allowed-path and its folder."
USED = 86400  # seconds after its last use in which a file is not deleted


@dataclass(frozen=True)
class KeptFiles:
    """A folder of kept files."""

    name: str  # of the folder, in the host's folder of outputs
    what: str  # the kind of file, for messages
    kind: Callable[[bytes], Kind | None] = opening.kind  # returns the kind of an accepted file, by its first bytes
    accepted: str = opening.READ  # the accepted files, for messages

    @property
    def folder(self) -> Path:
        return Path(paths_internal.default_output_dir) / self.name

    def find(self, name: str) -> Path | None:
        """Return the file of a name returned by `keep` or `copy`, or None for another text or a missing file."""
        file = self.folder / name if NAME.fullmatch(name) else None
        if file is None or not file.is_file() or file.is_symlink():
            return None
        return self._used(file)

    def keep(self, data: bytes) -> str:
        """Save a file's bytes. Return its name."""
        file = self.folder / f"{hashlib.sha256(data).hexdigest()[:16]}.{opening.ending(data)}"
        if file.is_file():
            return self._used(file).name
        try:
            disk.make_folder(file.parent)
            disk.write(file, data)
        except OSError as error:
            raise self._not_kept(error, file) from error
        self.shrink()
        return file.name

    def copy(self, path: Path) -> str:
        """Save a copy of a file, which may be large. Return its name."""
        with open(path, "rb") as source:
            found = self.kind(source.read(opening.HEAD))
            if found is None:
                raise MediaError("is no file that can be read", where=self.what, remedy=f"Give {self.accepted}")
            file = self.folder / f"{content(path)[:16]}.{found.ending}"
            if file.is_file():
                return self._used(file).name
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
        self.shrink()
        return file.name

    def uploaded(self, path: str | None) -> str:
        """Save a copy of a file that the page has stored. Return its name, or "" without a path."""
        if not path:
            return ""
        if not is_uploaded(path):
            raise MediaError("this is no upload of the page", where=self.what, remedy=ELSEWHERE)
        return self.copy(Path(path))

    def shrink(self) -> None:
        """Delete the files that were not used for the longest time until the rest has the size that the options allow.

        A file that was kept or used within a day stays, since a run may need it.
        """
        most = options.kept_bytes()
        if not most:
            return
        files = []
        for file in self.folder.iterdir():
            with suppress(OSError):
                state = file.lstat()
                files += [(state.st_mtime, state.st_size, file)] if NAME.fullmatch(file.name) else []
        size, now = sum(size for _, size, _ in files), time.time()
        for used, bytes_, file in sorted(files):
            if size <= most or now - used < USED:
                return
            with suppress(OSError):
                file.unlink()
                size -= bytes_

    def _used(self, file: Path) -> Path:
        """Return the file, with the time of its last use set to now; see `shrink`."""
        with suppress(OSError):
            os.utime(file)
        return file

    def _not_kept(self, error: OSError, file: Path) -> MediaError:
        return MediaError(f"the {self.what} was not kept ({error.strerror})", where=str(file), remedy=REMEDY)


def is_uploaded(path: str) -> bool:
    """Whether the path is an upload that the page has stored."""
    given = getattr(getattr(shared, "opts", None), "temp_dir", "") or os.environ.get("GRADIO_TEMP_DIR")
    places = [given] if given else []
    places.append(os.path.join(tempfile.gettempdir(), "gradio"))
    real = Path(os.path.realpath(path))
    return any(inside(real, Path(os.path.realpath(place))) for place in places)
