"""How frames are enlarged: the upscaler of a name, and sizes that an image model takes."""
from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from animatediff import user_paths
from animatediff.errors import ModelError, end_of
from animatediff.media import read
from animatediff.media.upscale import LANCZOS, LATENT, METHODS, MODEL, Upscaler, network
from animatediff.settings import BY_NAME

FindModel = Callable[[str], Path]  # returns the file of an upscaler model's name, or raises ModelError


@dataclass(frozen=True)
class Enlargement:
    """How frames are enlarged."""

    method: str  # of media.upscale.METHODS
    width: int  # of the result
    height: int  # of the result
    model: Path | None = None  # the method's model file, if it has one
    fit: str = "crop"  # see media.read.fitted

    @classmethod
    def of(cls, upscaler: str, width: int, height: int, find: FindModel, fit: str) -> Enlargement:
        """Return the enlargement by an upscaler: LANCZOS, LATENT, or a model that `find` knows.

        Raises ModelError for a file that is no upscaler model, and MediaError if a package is missing.
        """
        plain = {name.lower(): name for name in (LANCZOS, LATENT)}
        if upscaler.lower() in plain:
            return cls(plain[upscaler.lower()], width, height, fit=fit)
        path = find(upscaler)
        network.check(path)
        network.library()
        return cls(MODEL, width, height, path, fit)

    def load(self, device: Any = "cpu") -> Callable[[Image.Image], np.ndarray]:
        """Return a function that enlarges a frame to uint8 [h w 3].

        With LATENT, it returns the frame in a size that the VAE takes.
        """
        tensors = {} if self.model is None else network.check(self.model).tensors()
        upscaler: Upscaler = METHODS[self.method](tensors, str(device))

        def enlarged(image: Image.Image) -> np.ndarray:
            frame = Image.fromarray(upscaler(np.asarray(image), self.width, self.height))
            size = _multiples(*frame.size) if self.method == LATENT else (self.width, self.height)
            return np.asarray(read.fitted(frame, *size, self.fit))

        return enlarged

    @property
    def size(self) -> str:
        """WIDTHxHEIGHT."""
        return f"{self.width}x{self.height}"

    @property
    def description(self) -> str:
        """Method for people, such as "Lanczos" or the name of the model file."""
        return self.model.name if self.model else self.method


def sized(width: float, height: float) -> str:
    """Return the nearest size that an image model takes, as WIDTHxHEIGHT. Raises SettingsError if it is too large."""
    return BY_NAME["size"].read(_multiples(width, height), "size")


def _multiples(width: float, height: float) -> tuple[int, int]:
    row = BY_NAME["size"]
    step, least = row.multiple_of, int(row.minimum or 1)
    return max(least, round(width / step) * step), max(least, round(height / step) * step)


def find_in(name: str, folders: Iterable[Path]) -> Path:
    """Return the upscaler model of this name: a path, or a file name in the folders, with or without its ending.

    Raises ModelError if there is none.
    """
    in_folders = (folder / f"{name}{ending}" for folder in folders for ending in ("", *network.SUFFIXES))
    for path in (user_paths.named(name), *in_folders):
        if user_paths.there(path, Path.is_file):
            return path
    raise ModelError("there is no such upscaler model", where=end_of(name),
                     remedy=f"Use {LANCZOS}, {LATENT}, or the path of a model's file")
