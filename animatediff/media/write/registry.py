"""The registry of formats: which there are, and whether they can be written here."""
from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from animatediff.errors import FormatError, MediaError, quoted
from animatediff.media.write.apng import Apng
from animatediff.media.write.base import Writer
from animatediff.media.write.encode import Mp4, Webm
from animatediff.media.write.gif import Gif
from animatediff.media.write.stills import PngFrames, Text
from animatediff.media.write.webp import Webp

WRITERS: dict[str, type[Writer]] = {w.format: w for w in (Gif, Mp4, Webm, Webp, Apng, PngFrames, Text)}


def names(formats: str | Iterable[str]) -> list[str]:
    """Format names as in WRITERS, each once, in the order given; any case, a leading dot is fine."""
    given = [formats] if isinstance(formats, str) else list(formats)
    found = [str(name).strip().lstrip(".").upper() for name in given]
    for name, original in zip(found, given):
        if name not in WRITERS:
            raise FormatError(f"{quoted(original)} is not a format", where="formats",
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


def without_sound(formats: Iterable[str]) -> str:
    """A note for a clip with sound about the formats that have none; "" where all have it. TXT is no clip."""
    silent = [name for name in formats if name != "TXT" and not WRITERS[name].has_sound]
    if not silent:
        return ""
    able = ", ".join(name for name, writer in WRITERS.items() if writer.has_sound)
    named = " and ".join(filter(None, [", ".join(silent[:-1]), silent[-1]]))
    return f"{named} cannot have sound. Formats with sound: {able}"


def _broken(formats: Iterable[str]) -> dict[str, MediaError]:
    found = {}
    for name in formats:
        try:
            WRITERS[name].probe()
        except MediaError as error:
            found[name] = error
    return found
