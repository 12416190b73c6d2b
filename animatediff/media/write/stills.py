"""Write frames as PNG files, and the settings as a text file."""
from __future__ import annotations

import io
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

from animatediff import disk
from animatediff.errors import MediaError
from animatediff.media.metadata import PNG_KEY, png_text
from animatediff.media.write import deep_png
from animatediff.media.write.base import Clip, Writer


class PngFrames(Writer):
    """Writer of name/00000.png, name/00001.png … Holds no frame. Each file is complete when `add` returns."""

    format, extension = "PNG", "png"
    has_alpha, bits = True, 16

    def __init__(self, path: Path, clip: Clip):
        super().__init__(path, clip)
        self.paths: list[Path] = []

    @classmethod
    def place(cls, stem: Path) -> Path:
        return stem

    @classmethod
    def check(cls, path: Path) -> None:
        if path.exists() and not path.is_dir():
            raise MediaError("the frames' folder would have this name, but it is a file", where=str(path),
                             remedy="Choose another name or move the file away")

    def ready(self, before: np.ndarray | None, frame: np.ndarray) -> bytes:
        if frame.dtype == np.uint16:
            return deep_png.picture(frame, png_text(self.clip.embedded))
        info = PngImagePlugin.PngInfo()
        if self.clip.embedded:
            info.add_itxt(PNG_KEY, self.clip.embedded)
        buffer = io.BytesIO()
        Image.fromarray(frame).save(buffer, "PNG", pnginfo=info)
        return buffer.getvalue()

    def add(self, ready: bytes) -> None:
        if self.count == 0:
            disk.make_folder(self.path)
        part = disk.Part(self.path / f"{self.count:05d}.png")
        try:
            part.file.write(ready)
            self.paths.append(part.keep())
        except BaseException:
            part.drop()
            raise
        self.count += 1

    def finish(self) -> list[Path]:
        return self.paths

    def abort(self) -> list[Path]:
        if not self.paths:
            with suppress(OSError):
                self.path.rmdir()  # fails if it is not empty
        return self.paths

    def older(self) -> list[Path]:
        """Return the numbered frames after the last one, left from an earlier, longer clip of the same name."""
        mine = {p.name for p in self.paths}
        found = (p for p in self.path.glob("*.png") if p.stem.isdigit() and p.name not in mine)
        return sorted(p for p in found if int(p.stem) >= self.count)


class Text(Writer):
    """Writer of the settings text. Holds no frame.

    The text is written with the first frame, and again at the end if it has changed.
    """

    format, extension = "TXT", "txt"

    def __init__(self, path: Path, clip: Clip):
        super().__init__(path, clip)
        self._written: str | None = None

    def add(self, ready: np.ndarray) -> None:
        if self.count == 0:
            self._write()
        self.count += 1

    def _write(self) -> None:
        part = disk.Part(self.path)
        try:
            part.file.write(self.clip.metadata.encode("utf-8"))
            part.keep()
        except BaseException:
            part.drop()
            raise
        self._written = self.clip.metadata

    def finish(self) -> list[Path]:
        if self._written != self.clip.metadata:
            self._write()
        return [self.path]

    def abort(self) -> list[Path]:
        return [self.path] if self.count else []
