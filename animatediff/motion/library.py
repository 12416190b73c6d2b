"""Folders of motion modules and motion LoRAs: what is in them, and finding one by a name that a user wrote."""
from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from animatediff.errors import AnimateDiffError, ModelError
from animatediff.motion.load import Description
from animatediff.motion.load import describe as read
from animatediff.motion.lora_files import LoraDescription
from animatediff.motion.lora_files import describe as read_lora
from animatediff.weights.boundary import UnreadableError, reading
from animatediff.weights.files import read_shapes
from animatediff.weights.kinds import DOMAIN_ADAPTER, MOTION_LORA, MOTION_MODULE, kind_of

MODULE = MOTION_MODULE  # a kind, beside those in lora_files
SUFFIXES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")
_CONFIG = "config.json"  # what a folder in diffusers' layout has


@dataclass(frozen=True)
class Entry:
    """A file of a motion module folder: what it is, or why it cannot be used."""

    name: str
    path: Path
    family: str = ""
    base: str = ""
    max_frames: int = 0
    widths: tuple[int, ...] = ()
    problem: str = ""
    trained_frames: int = 0
    kind: str = MODULE
    rank: int = 0

    def to_dict(self) -> dict:
        values = {"name": self.name, "path": str(self.path), "kind": self.kind, "usable": not self.problem}
        if self.problem:
            return values | {"problem": self.problem}
        if self.kind != MODULE:
            return values | {"rank": self.rank, "widths": list(self.widths)}
        return values | {"family": self.family, "base": self.base, "max_frames": self.max_frames,
                         "widths": list(self.widths), "trained_frames": self.trained_frames}


def files(folder: Path) -> list[Path]:
    """Candidates in a folder and below: weight files, and folders in diffusers' layout; nothing hidden. A folder below
    that cannot be looked into is one, too, so that a listing tells of it."""
    seen: set[str] = set()  # folders under way, since a link may lead back up

    def walk(place: Path) -> Iterator[Path]:
        own = os.path.realpath(place)
        if own in seen:
            return
        seen.add(own)
        for path in sorted(place.iterdir()):
            if path.name.startswith("."):
                continue
            try:
                if not path.is_dir():
                    found = [path] if path.suffix.lower() in SUFFIXES else []
                elif (path / _CONFIG).is_file():
                    found = [path]
                else:
                    found = list(walk(path))
            except OSError:
                found = [path]
            yield from found

    try:
        return list(walk(folder))
    except OSError as error:
        raise ModelError(f"this folder cannot be read ({error.strerror})", where=str(folder),
                         remedy="Give the folder of your motion modules") from error


def describe(path: Path) -> Description:
    """What a file is, from its shapes; ModelError says why it cannot be used.

    Files that have not changed are not read again: a .ckpt takes a good part of a second.
    """
    return _told(path, read)


def describe_lora(path: Path) -> LoraDescription:
    """The same for a motion LoRA."""
    return _told(path, read_lora)


def entry(path: Path, name: str) -> Entry:
    """`describe` for a list, which never raises: what cannot be used is an entry as well, with the reason."""
    if any("\ud800" <= letter <= "\udfff" for letter in name):  # bytes that are no text, which no answer can hold
        name = name.encode("utf-8", "replace").decode()
        return Entry(name, path.with_name("?"), problem=f"{name} has a name that is no text: rename the file.")
    try:
        with reading(path):
            return _entry(path, name)
    except Exception as error:
        return Entry(name, path, problem=str(error))


def _entry(path: Path, name: str) -> Entry:
    try:
        about = describe(path)
    except AnimateDiffError:
        if not _told(path, _is_lora):
            raise
        lora = describe_lora(path)
        return Entry(name, path, widths=lora.widths, kind=lora.kind, rank=lora.rank)
    return Entry(name, path, about.family.name, about.family.base, about.max_frames, tuple(about.widths),
                 trained_frames=about.family.best_frames)


def _is_lora(path: Path) -> bool:
    kind = kind_of(read_shapes(path))
    return kind is not None and kind.name in (MOTION_LORA, DOMAIN_ADAPTER)


def listing(folders: Iterable[Path]) -> list[Entry]:
    """What is in these folders, named by the path inside."""
    return [entry(path, path.relative_to(folder).as_posix()) for folder in folders for path in files(folder)]


def find(name: str, folders: Iterable[Path]) -> Path | None:
    """The file or diffusers folder that `name` means inside these folders, first folder first.

    A path from the folder, then a file's own name anywhere below; both with or without suffix. A path that leads
    out of the folder is none of it; links inside the folder lead where they lead.
    """
    wanted = Path(name)
    for folder in folders:
        for path in (folder / wanted, *(folder / f"{name}{suffix}" for suffix in SUFFIXES)):
            if inside(path, folder) and _is_candidate(path):
                return path
        if folder.is_dir() and wanted.parent == Path():
            for path in files(folder):
                if name in (path.name, path.stem):
                    return path
    return None


def inside(path: Path, folder: Path) -> bool:
    """Whether `path`, with its ".." followed, is below the folder."""
    written, root = (Path(os.path.abspath(place)) for place in (path, folder))
    return root in written.parents


def _is_candidate(path: Path) -> bool:
    try:
        return path.is_file() or (path / _CONFIG).is_file()
    except (OSError, ValueError):  # a name too long, or with a NUL
        return False


def _stamp(path: Path) -> tuple:
    """Times and sizes of everything that a description depends on."""
    parts = sorted(path.iterdir()) if path.is_dir() else [path, path.with_name(_CONFIG)]
    found = []
    for part in parts:
        try:
            about = part.stat()
        except OSError:
            continue
        found.append((part.name, about.st_mtime_ns, about.st_size))
    return tuple(found)


def _told(path: Path, read: Callable[[Path], Any]) -> Any:
    with reading(path):
        about = _described(path, _stamp(path), read)
    if not isinstance(about, AnimateDiffError):
        return about
    raise type(about)(about.what, where=about.where, remedy=about.remedy)


@lru_cache(maxsize=1024)
def _described(path: Path, stamp: tuple, read: Callable[[Path], Any]) -> Any:
    """What `read` tells or raises. A file that the system does not give raises at once, and is asked for again."""
    try:
        return read(path)
    except UnreadableError:
        raise
    except AnimateDiffError as error:
        return error.with_traceback(None)
