"""Folders of motion modules and motion LoRAs: list their files, and find a file by name."""
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
from animatediff.weights.kinds import DOMAIN_ADAPTER, FILM, MOTION_LORA, MOTION_MODULE, RIFE, UPSCALER, kind_of

MODULE = MOTION_MODULE  # the kind of an Entry; lora_files has the others
SUFFIXES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")
_FOR_FINISHED_CLIPS = (RIFE, FILM, UPSCALER)  # kinds whose files may lie in these folders, too
_CONFIG = "config.json"  # marks a folder in diffusers' layout


@dataclass(frozen=True)
class Entry:
    """A file in a motion module folder."""

    name: str
    path: Path
    family: str = ""
    base: str = ""  # "SD1.5" or "SDXL"
    max_frames: int = 0  # longest context window
    widths: tuple[int, ...] = ()  # channels per level of the UNet, outermost first
    problem: str = ""  # why the file cannot be used; "" if it can
    trained_frames: int = 0  # window length in training
    kind: str = MODULE
    rank: int = 0  # of a LoRA

    def to_dict(self) -> dict:
        values = {"name": self.name, "path": str(self.path), "kind": self.kind, "usable": not self.problem}
        if self.problem:
            return values | {"problem": self.problem}
        if self.kind != MODULE:
            return values | {"rank": self.rank, "widths": list(self.widths)}
        return values | {"family": self.family, "base": self.base, "max_frames": self.max_frames,
                         "widths": list(self.widths), "trained_frames": self.trained_frames}


def files(folder: Path) -> list[Path]:
    """Return the weight files and diffusers folders in a folder and below it, without hidden ones.

    A subfolder that cannot be read is included, so that a listing reports it. Raises ModelError if `folder` itself
    cannot be read.
    """
    seen: set[str] = set()  # folders that were visited, since a link may lead back up

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
    """Return the Description of a motion module's file, from its shapes. Raises ModelError if it cannot be used.

    Results are cached until the file changes, since reading a .ckpt takes a good part of a second.
    """
    return _cached(path, read)


def describe_lora(path: Path) -> LoraDescription:
    """Return the LoraDescription of a LoRA's file; cached like `describe`."""
    return _cached(path, read_lora)


def entry(path: Path, name: str) -> Entry:
    """Return the Entry of a file. It never raises: the Entry of an unusable file has a `problem`."""
    if any("\ud800" <= letter <= "\udfff" for letter in name):  # undecodable bytes, which JSON cannot hold
        name = name.encode("utf-8", "replace").decode()
        return Entry(name, path.with_name("?"), problem=f"{name} has a name with invalid characters: rename the file.")
    try:
        with reading(path):
            return _entry(path, name)
    except Exception as error:
        return Entry(name, path, problem=str(error))


def _entry(path: Path, name: str) -> Entry:
    try:
        about = describe(path)
    except AnimateDiffError:
        if _cached(path, _kind) not in (MOTION_LORA, DOMAIN_ADAPTER):
            raise
        lora = describe_lora(path)
        return Entry(name, path, widths=lora.widths, kind=lora.kind, rank=lora.rank)
    return Entry(name, path, about.family.name, about.family.base, about.max_frames, tuple(about.widths),
                 trained_frames=about.family.best_frames)


def _kind(path: Path) -> str:
    kind = kind_of(read_shapes(path))
    return kind.name if kind else ""


def listing(folders: Iterable[Path]) -> list[Entry]:
    """Return an Entry for each file in these folders. Its name is the path relative to the folder.

    Networks for interpolation and enlargement, which may lie there too, have none.
    """
    found = ((folder, path) for folder in folders for path in files(folder))
    return [entry(path, path.relative_to(folder).as_posix()) for folder, path in found if not _is_of_others(path)]


def _is_of_others(path: Path) -> bool:
    try:
        return path.is_file() and _cached(path, _kind) in _FOR_FINISHED_CLIPS
    except Exception:  # `entry` tells the reason
        return False


def find(name: str, folders: Iterable[Path]) -> Path | None:
    """Return the file or diffusers folder called `name` in the first of these folders that has it, or None.

    `name` is a path relative to the folder or, second, the name of a file anywhere below it; both with or without
    suffix. Paths that lead out of the folder are ignored; symbolic links inside the folder are followed.
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
    """Return whether `path` is below the folder after its ".." parts are resolved."""
    written, root = (Path(os.path.abspath(place)) for place in (path, folder))
    return root in written.parents


def _is_candidate(path: Path) -> bool:
    try:
        return path.is_file() or (path / _CONFIG).is_file()
    except (OSError, ValueError):  # a name too long, or with a NUL
        return False


def _stamp(path: Path) -> tuple:
    """Return the names, modification times and sizes of all files that a description depends on."""
    parts = sorted(path.iterdir()) if path.is_dir() else [path, path.with_name(_CONFIG)]
    found = []
    for part in parts:
        try:
            about = part.stat()
        except OSError:
            continue
        found.append((part.name, about.st_mtime_ns, about.st_size))
    return tuple(found)


def _cached(path: Path, read: Callable[[Path], Any]) -> Any:
    with reading(path):
        about = _read_or_error(path, _stamp(path), read)
    if not isinstance(about, AnimateDiffError):
        return about
    raise type(about)(about.what, where=about.where, remedy=about.remedy)


@lru_cache(maxsize=1024)
def _read_or_error(path: Path, stamp: tuple, read: Callable[[Path], Any]) -> Any:
    """Return the description, or the error if there is one, so that both are cached.

    UnreadableError is raised and not cached, since the file may be readable later.
    """
    try:
        return read(path)
    except UnreadableError:
        raise
    except AnimateDiffError as error:
        return error.with_traceback(None)
