"""The registry of file formats, and checks whether they can be written on this machine."""
from __future__ import annotations

from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path

from animatediff.errors import FormatError, MediaError, quoted
from animatediff.media.write import soundtrack
from animatediff.media.write.apng import Apng
from animatediff.media.write.base import Clip, WriteOptions, Writer
from animatediff.media.write.codecs import listed
from animatediff.media.write.encode import Mkv, Mov, Mp4, Video, Webm
from animatediff.media.write.gif import Gif
from animatediff.media.write.stills import PngFrames, Text
from animatediff.media.write.webp import Webp

WRITERS: dict[str, type[Writer]] = {w.format: w for w in (Gif, Mp4, Webm, Mov, Mkv, Webp, Apng, PngFrames, Text)}


def names(formats: str | Iterable[str]) -> list[str]:
    """Return format names as in WRITERS, without duplicates. Case and a leading dot do not matter.

    Raises FormatError for an unknown format, or if there is none.
    """
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
    """Return the format of a file name's ending, or None."""
    suffix = Path(path).suffix[1:].lower()
    return next((name for name, writer in WRITERS.items() if writer.extension == suffix), None)


def probe(formats: str | Iterable[str], options: WriteOptions | None = None, *, sound: bool = False) -> None:
    """Raise MediaError if a format cannot be written on this machine with these options. For use before a run.

    The error names the formats that work. sound: check the sound encoders as well.
    """
    wanted, options = names(formats), options or WriteOptions()
    for writer in (WRITERS[name] for name in wanted if sound):
        if issubclass(writer, Video):
            soundtrack.probe(writer.container)
    broken = _broken(wanted, options)
    if not broken:
        return
    first = next(iter(broken.values()))
    if first.where.startswith("video_"):  # an error about an option already says what works
        raise first
    working = [name for name in WRITERS if name not in _broken(WRITERS, WriteOptions())]
    raise MediaError("; ".join(f"{name}: {error.what}" for name, error in broken.items()), where="formats",
                     remedy=f"{first.remedy}. Formats that work now: {', '.join(working)}")


def without_sound(formats: Iterable[str]) -> str:
    """Return a note on the formats that cannot contain sound, or "" if all can."""
    return _lacking(formats, WriteOptions(), lambda writer: writer.has_sound, "cannot contain sound")


def without_alpha(formats: Iterable[str], options: WriteOptions) -> str:
    """Return a note on the formats that cannot contain transparency, or "" if all can."""
    said = "cannot contain transparency, which is white" if options.on_white else "cannot contain transparency"
    return _lacking(formats, options, lambda writer: writer.has_alpha, said)


def with_alpha(formats: Iterable[str], options: WriteOptions) -> list[str]:
    """Return the formats that can contain transparency."""
    clip = Clip(Fraction(8), options=options)
    return [name for name in formats if name != "TXT" and WRITERS[name](Path("trial"), clip).has_alpha]


def without_depth(formats: Iterable[str], options: WriteOptions) -> str:
    """Return a note on the formats that have only 8 bits if more are requested, else ""."""
    if options.bit_depth == 8:
        return ""
    return _lacking(formats, options, lambda writer: writer.bits > 8, "can only contain 8 bits per channel")


def _lacking(formats: Iterable[str], options: WriteOptions, able: Callable[[Writer], bool], what: str) -> str:
    clip = Clip(Fraction(8), options=options)
    named = [name for name in formats if name != "TXT" and not able(WRITERS[name](Path("trial"), clip))]
    return f"{listed(named)} {what}" if named else ""


def _broken(formats: Iterable[str], options: WriteOptions) -> dict[str, MediaError]:
    found = {}
    for name in formats:
        try:
            WRITERS[name].probe(options)
        except MediaError as error:
            found[name] = error
    return found
