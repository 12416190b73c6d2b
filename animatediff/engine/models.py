"""Where motion modules and the demo model are found."""
from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import AnimateDiffError, ModelError

DEMO = Path(__file__).with_name("demo")
DEMO_CHECKPOINT = DEMO / "demo.safetensors"
DEMO_MODULE = DEMO / "motion.safetensors"
FOLDER_VARIABLE = "ANIMATEDIFF_MODELS"
SUFFIXES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")


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

    def to_dict(self) -> dict:
        values = {"name": self.name, "path": str(self.path), "usable": not self.problem}
        if self.problem:
            return values | {"problem": self.problem}
        return values | {"family": self.family, "base": self.base, "max_frames": self.max_frames,
                         "widths": list(self.widths)}


def folders() -> list[Path]:
    """Motion module folders, first choice first; the last is named when all are empty, and need not exist."""
    named = os.environ.get(FOLDER_VARIABLE)
    places = [Path(named).expanduser()] if named else []
    places += [Path.cwd() / "model", Path(__file__).resolve().parents[2] / "model"]
    return list(dict.fromkeys(places))


def files(folder: Path) -> list[Path]:
    """Candidates in a folder and below: weight files, and folders in diffusers' layout."""

    def walk(place: Path) -> Iterator[Path]:
        for path in sorted(place.iterdir()):
            if path.name.startswith("."):
                continue
            if path.is_dir():
                if (path / "config.json").is_file():
                    yield path
                else:
                    yield from walk(path)
            elif path.suffix.lower() in SUFFIXES:
                yield path

    try:
        return list(walk(folder))
    except OSError as error:
        raise ModelError(f"this folder cannot be read ({error.strerror})", where=str(folder),
                         remedy=f"Give the folder of your motion modules, or set {FOLDER_VARIABLE}") from error


def listing(folder: Path | None = None) -> list[Entry]:
    """What is in `folder`, or in all motion module folders and the package."""
    places = [folder] if folder else [place for place in folders() if place.is_dir()]
    entries = [_entry(path, path.relative_to(place).as_posix()) for place in places for path in files(place)]
    if folder is None and DEMO_MODULE.is_file():
        entries.append(_entry(DEMO_MODULE, "the demo module"))
    return entries


def find(name: str) -> Path:
    """The motion module a user named: nothing (the demo's), a path, or a name in a folder with or without suffix."""
    if not name:
        if not DEMO_MODULE.is_file():
            raise ModelError("this installation has no demo motion module", where=str(DEMO_MODULE),
                             remedy="Name a motion module with --motion-module")
        return DEMO_MODULE
    path = Path(name).expanduser()
    if path.exists():
        return path
    if name == DEMO_MODULE.name and DEMO_MODULE.is_file():
        return DEMO_MODULE
    if not path.is_absolute():
        for folder in folders():
            for candidate in (folder / path, *(folder / f"{path}{suffix}" for suffix in SUFFIXES)):
                if candidate.exists():
                    return candidate
            if folder.is_dir():
                for candidate in files(folder):
                    if path.name in (candidate.name, candidate.stem):
                        return candidate
    places = ", ".join(map(str, folders()))
    raise ModelError("there is no such motion module", where=name,
                     remedy=f"Looked in {places}; `animatediff models` lists what is there")


def find_checkpoint(name: str) -> Path:
    """The image model: nothing (the demo's) or a path."""
    if not name:
        if not DEMO_CHECKPOINT.is_file():
            raise ModelError("this installation has no demo model", where=str(DEMO_CHECKPOINT),
                             remedy="Name a Stable Diffusion checkpoint with --checkpoint")
        return DEMO_CHECKPOINT
    path = Path(name).expanduser()
    if path.exists():
        return path
    if name == DEMO_CHECKPOINT.name and DEMO_CHECKPOINT.is_file():
        return DEMO_CHECKPOINT
    raise ModelError("there is no such file or folder", where=name,
                     remedy="--checkpoint takes the path of a .safetensors or .ckpt file or of a diffusers folder")


def _entry(path: Path, name: str) -> Entry:
    from ..motion.load import describe

    try:
        about = describe(path)
    except AnimateDiffError as error:
        return Entry(name, path, problem=str(error))
    return Entry(name, path, about.family.name, about.family.base, about.max_frames, tuple(about.widths))
