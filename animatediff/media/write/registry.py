"""The registry of formats: which there are, whether they can be written here, and where their files go."""
from __future__ import annotations

import uuid
from collections.abc import Iterable
from pathlib import Path

from animatediff.errors import FormatError, MediaError, quoted
from animatediff.media.write.apng import Apng
from animatediff.media.write.base import Writer, leftovers, open_new, reason, remedy
from animatediff.media.write.encode import Mp4, Webm
from animatediff.media.write.gif import Gif
from animatediff.media.write.stills import PngFrames, Text
from animatediff.media.write.webp import Webp

WRITERS: dict[str, type[Writer]] = {w.format: w for w in (Gif, Mp4, Webm, Webp, Apng, PngFrames, Text)}

_FOREIGN = {"avi", "bmp", "flv", "jpeg", "jpg", "m4v", "mkv", "mov", "mpeg", "mpg", "ogv", "tif", "tiff", "wmv"}


def names(formats: str | Iterable[str]) -> list[str]:
    """Format names as in WRITERS, each once, in the order given; any case, a leading dot is fine."""
    given = [formats] if isinstance(formats, str) else list(formats)
    found = [str(name).strip().lstrip(".").upper() for name in given]
    for name, original in zip(found, given):
        if name not in WRITERS:
            raise FormatError(f"{quoted(original)} is no format", where="formats",
                              remedy=f"Choose from {', '.join(WRITERS)}")
    if not found:
        raise FormatError("no format is chosen", where="formats", remedy=f"Choose from {', '.join(WRITERS)}")
    return list(dict.fromkeys(found))


def format_of(path: str | Path) -> str | None:
    """The format that a file name's ending stands for, or None."""
    suffix = Path(path).suffix[1:].lower()
    return next((name for name, writer in WRITERS.items() if writer.extension == suffix), None)


def probe(formats: str | Iterable[str]) -> None:
    """Raise MediaError, before a run, if a format cannot be written here; says which do work."""
    wanted = names(formats)
    broken = _broken(wanted)
    if broken:
        first = next(iter(broken.values()))
        working = [name for name in WRITERS if name not in _broken(WRITERS)]
        raise MediaError("; ".join(f"{name}: {error.what}" for name, error in broken.items()), where="formats",
                         remedy=f"{first.remedy}. Formats that work now: {', '.join(working)}")


def check(target: str | Path, formats: str | Iterable[str], name: str = "clip") -> None:
    """Raise MediaError, before a run, if the clip's files cannot be where they should; nothing is left there."""
    check_place(stem_of(target, name), names(formats), make=False)


def remove_leftovers(target: str | Path, formats: str | Iterable[str], name: str = "clip") -> None:
    """Delete what a process that was killed left half written of the clip's files."""
    for form in names(formats):
        place = WRITERS[form].place(stem_of(target, name))
        for path in place.glob(".*.part") if place.is_dir() else leftovers(place):
            path.unlink(missing_ok=True)


def _broken(formats: Iterable[str]) -> dict[str, MediaError]:
    found = {}
    for name in formats:
        try:
            WRITERS[name].probe()
        except MediaError as error:
            found[name] = error
    return found


def check_place(stem: Path, formats: Iterable[str], *, make: bool) -> None:
    """Find out now, not after the run, whether the files can be where they should.

    `make` their folder; without it, the nearest folder that is there says whether it could be made.
    """
    folder = stem.parent
    try:
        for name in formats:
            WRITERS[name].check(WRITERS[name].place(stem))
        if make:
            folder.mkdir(parents=True, exist_ok=True)
        else:
            folder = next(place for place in stem.absolute().parents if place.exists())
        trial = folder / f".{uuid.uuid4().hex}.trial"
        try:
            open_new(trial).close()
        finally:
            trial.unlink(missing_ok=True)
    except OSError as error:
        raise MediaError(f"cannot write here ({reason(error)})", where=str(stem.parent),
                         remedy=remedy(error) or "Choose another folder") from error


def stem_of(target: str | Path, name: str) -> Path:
    """Folder and name, without extension, of a clip's files."""
    path = Path(target)
    suffix = path.suffix[1:].lower()
    if suffix in _FOREIGN:
        raise FormatError(f"{path.suffix} files cannot be written", where=str(path),
                          remedy=f"Choose from {', '.join('.' + w.extension for w in WRITERS.values())}")
    # "demo.gif" and "out/demo.GIF" are files; "out", "out/" and "clips.v2" are folders.
    is_folder = format_of(path) is None or str(target).endswith(("/", "\\"))
    return path / name if is_folder else path.with_suffix("")
