"""Read users' pictures: files, folders, animations, videos, and base64 text in requests."""
from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image, ImageOps, UnidentifiedImageError

from animatediff.errors import MediaError, end_of
from animatediff.media import decode
from animatediff.media.budget import BYTES, Budget, TooMuchError
from animatediff.media.opening import HEAD, READ, Kind, eight_bits, from_base64, kind
from animatediff.parameters import LONGEST

ENDINGS = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".avif", ".heic",
           ".heif")
REMEDY = f"Give {READ}, or a folder of pictures"
WHITE = (255, 255, 255, 255)
_DIGITS = re.compile(r"(\d+)")


def pictures(path: str | Path) -> Iterator[Image.Image]:
    """Yield the RGB pictures of a file, or of a folder in the order of their numbers.

    Raises MediaError, which names the file, if one cannot be read.
    """
    path = Path(path)
    for file in in_folder(path) if path.is_dir() else ():
        yield next(_of_file(file))[1]
    if not path.is_dir():
        yield from (picture for _, picture in _of_file(path))


def one_size(where: Path) -> Callable[[Image.Image], Image.Image]:
    """Return a function that returns pictures unchanged, and raises MediaError for one of another size than the first.

    where: the file or folder of the pictures.
    """
    sizes: list[tuple[int, int]] = []

    def checked(image: Image.Image) -> Image.Image:
        sizes.append(image.size)
        if image.size != sizes[0]:
            first, other = ("x".join(map(str, size)) for size in (sizes[0], image.size))
            raise MediaError(f"picture {len(sizes)} has {other} pixels, the first one {first}", where=end_of(where),
                             remedy="Give pictures of one size")
        return image

    return checked


def first(path: Path) -> Image.Image:
    """Return the first picture of a file, with its transparency."""
    return next(_of_file(path, lambda make: make()))[1]


def durations(path: str | Path) -> list[float]:
    """Return the duration of each picture in seconds; 0 if it is not known, as in a folder."""
    path = Path(path)
    if path.is_dir():
        return [0.0] * len(in_folder(path))
    return [seconds for seconds, _ in _of_file(path, lambda make: None)]


def plays(path: str | Path) -> int:
    """Return how many times a GIF, WebP or APNG plays; 0 for endlessly, and for files that do not contain it."""
    path = Path(path)
    with suppress(Exception), open(path, "rb") as file:  # `pictures` reports errors in the file
        found = kind(file.read(HEAD))
        if found is not None and found.picture in ("GIF", "WEBP", "PNG"):
            with decode.still(file, found) as image:
                times = image.info.get("loop")
                return times + 1 if found.picture == "GIF" and times else 1 if times is None else times
    return 0


def in_folder(path: Path) -> list[Path]:
    """Return the picture files in a folder, in the order of their numbers. Raises MediaError if there are none."""
    # Hidden files are ignored, such as macOS's ._ files, which contain only file attributes.
    files = sorted((file for file in path.iterdir()
                    if file.suffix.lower() in ENDINGS and not file.name.startswith(".")), key=_numbered)
    if not files:
        raise MediaError("the folder has no pictures", where=str(path), remedy="Give one picture for each frame")
    return files


def decoded(text: str) -> Image.Image:
    """Return an RGBA picture from base64 text or a data URI.

    Raises ValueError, whose message is the predicate of a sentence, such as "is not a picture in base64".
    """
    data = from_base64(text)
    if data is None:
        raise ValueError("is not a picture in base64")
    return from_bytes(data)


def embedded(text: str, where: str, remedy: str, what: str = "picture or video",
             kind: Callable[[bytes], Kind | None] = kind) -> bytes | None:
    """Return the bytes of a file in base64 or a data URI, or None for a text that may be a path.

    where: name of the value in errors.
    remedy: what to send instead of base64 that is no such file.
    what, kind: the accepted files; see opening.kind and opening.sound_kind.
    """
    try:
        data = from_base64(text)
    except TooMuchError as error:
        raise MediaError(str(error), where=where, remedy="Make it smaller") from None
    if data and kind(data[:HEAD]):
        return data
    if text.startswith("data:") or (data and len(text) > LONGEST):  # longer than any path
        raise MediaError(f"is not a {what} in base64", where=where, remedy=remedy)
    return None


def from_bytes(data: bytes) -> Image.Image:
    """Return an RGBA picture from a file's bytes. Raises ValueError as `decoded`."""
    found = kind(data[:HEAD])
    try:
        if found is None or found.container or len(data) > BYTES:
            raise ValueError
        with decode.still(io.BytesIO(data), found) as image:
            return eight_bits(ImageOps.exif_transpose(image)).convert("RGBA")
    except TooMuchError:
        raise
    except MediaError as error:
        raise ValueError(f"{error.what}. {error.remedy}") from None
    except Exception:  # decoders raise any error for a damaged file
        raise ValueError("is base64, but not a picture that can be read") from None


def fitted(image: Image.Image, width: int, height: int, fit: str = "crop") -> Image.Image:
    """Return the picture in this size. fit: "crop" cuts overlapping sides, "pad" adds black, "stretch" distorts."""
    if image.size == (width, height):
        return image
    if fit == "stretch":
        return image.resize((width, height), Image.Resampling.LANCZOS)
    return (ImageOps.fit if fit == "crop" else ImageOps.pad)(image, (width, height), Image.Resampling.LANCZOS)


def flat(image: Image.Image) -> Image.Image:
    """Return the picture in RGB, with white behind transparent parts."""
    if image.mode == "RGB" and not _has_clear_colour(image):
        return image
    image = eight_bits(image).convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, WHITE), image).convert("RGB")


def with_alpha(image: Image.Image) -> Image.Image:
    """Return the picture in RGBA, in 8 bits."""
    return eight_bits(image).convert("RGBA")


def alpha_of(image: Image.Image) -> Image.Image | None:
    """Return the alpha channel, in 8 bits; None for an opaque picture."""
    if not ({"A", "a"} & {*image.getbands()} or (image.mode == "P" and "transparency" in image.info)
            or (image.mode in ("1", "L") and isinstance(image.info.get("transparency"), int))
            or _has_clear_colour(image)):
        return None
    alpha = image.convert("RGBA").getchannel("A")
    return None if alpha.getextrema()[0] == 255 else alpha


def _has_clear_colour(image: Image.Image) -> bool:
    """Return whether one RGB colour means transparent, as in some PNG files."""
    return image.mode == "RGB" and isinstance(image.info.get("transparency"), tuple)


def _seen(make: Callable[[], Image.Image]) -> Image.Image:
    return flat(make())


def _of_file(path: Path, look: Callable[[Callable[[], Image.Image]], Any] = _seen) -> Iterator[tuple[float, Any]]:
    """Yield duration in seconds and `look(make)` of each picture. `make` decodes the picture."""
    with refusals(path) as seen:
        with opened(path) as (file, found):
            for seconds, make in decode.shown(file, found, Budget()):
                yield seconds, look(make)
                seen.count += 1
        if not seen.count:
            raise MediaError("has no pictures", remedy=REMEDY)


@dataclass
class Seen:
    """Counts the pictures read in a block of `refusals`."""

    count: int = 0


@contextmanager
def refusals(path: Path) -> Iterator[Seen]:
    """Turn all decoder errors in the block into MediaError, which names the file."""
    where, seen = end_of(path), Seen()
    try:
        yield seen
    except MediaError as error:
        raise error if error.where else MediaError(error.what, where=where, remedy=error.remedy) from None
    except TooMuchError as error:
        raise MediaError(str(error), where=where, remedy="Make it smaller") from None
    except Exception as error:  # decoders raise any error for a damaged file
        raise _damaged(error, where, seen.count) from error


@contextmanager
def opened(path: Path) -> Iterator[tuple[BinaryIO, Kind]]:
    """Open a picture or video and detect its kind. Use it inside `refusals`."""
    if path.exists() and not path.is_file():  # opening a pipe would block
        raise MediaError("is no file", remedy=REMEDY)
    with open(path, "rb") as file:
        found = kind(file.read(HEAD))
        if found is None:
            raise MediaError("is neither a picture nor a video that can be read", remedy=REMEDY)
        file.seek(0)
        yield file, found


def _damaged(error: Exception, where: str, count: int) -> MediaError:
    if count:
        return MediaError(f"is incomplete or damaged: {count} of its pictures can be read",
                          where=where, remedy="Save it again, or ask for at most that many frames")
    if isinstance(error, UnidentifiedImageError):  # its text names only an internal object
        return MediaError("is damaged", where=where, remedy="Save it again")
    return MediaError(f"cannot be read ({getattr(error, 'strerror', None) or error})", where=where, remedy=REMEDY)


def _numbered(path: Path) -> list[Any]:
    """Return a sort key that puts 2.png before 10.png."""
    return [int(part) if part.isdecimal() else part.lower() for part in _DIGITS.split(path.name)]
