"""Store the settings text in files, and read it back.

The text is one UTF-8 string. GIF stores it as comment extension, PNG and APNG as iTXt chunk `parameters` (the key that
the WebUI reads), WebP as EXIF UserComment, and videos as the tag `comment`. A TXT file is the text itself.
"""
from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any, BinaryIO

from animatediff.errors import MediaError, end_of
from animatediff.media import decode
from animatediff.media.budget import PIXELS, TEXT, TooMuchError
from animatediff.media.opening import HEAD, Kind, kind
from animatediff.media.pyav import opened

PNG_KEY = "parameters"
VIDEO_KEY = "comment"
_EXIF_IFD, _USER_COMMENT, _DESCRIPTION = 0x8769, 0x9286, 0x010E  # tags
_LONG, _UNDEFINED = 4, 7  # types


def check(text: str) -> str:
    """Return the text unchanged. Raises MediaError if some format cannot store it."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise MediaError(f"the settings text holds {text[error.start]!r}, which is no character",
                         where="metadata", remedy="Write lone surrogates as JSON escapes") from None
    if "\0" in text:
        raise MediaError("the settings text holds a NUL character", where="metadata",
                         remedy="Write it as a JSON escape")
    return text


def gif_comment(text: str) -> bytes:
    """Return a GIF comment extension (GIF89a, section 24): sub-blocks of up to 255 bytes."""
    data = text.encode("utf-8")
    blocks = (data[i:i + 255] for i in range(0, len(data), 255))
    return b"\x21\xfe" + b"".join(bytes([len(b)]) + b for b in blocks) + b"\0" if data else b""


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """Return a PNG chunk with its length and checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_text(text: str) -> bytes:
    """Return an uncompressed iTXt chunk (PNG, section 11.3.3.4)."""
    return png_chunk(b"iTXt", PNG_KEY.encode() + b"\0\0\0\0\0" + text.encode("utf-8")) if text else b""


def exif(text: str) -> bytes:
    """Return an EXIF payload (TIFF, without the `Exif` marker that JPEG needs) with UserComment in UTF-16.

    It has two directories of one entry each (TIFF 6.0, section 2). Pillow is not used, because Pillow 9 gives the
    comment a type that other readers do not expect.
    """
    if not text:
        return b""
    comment = b"UNICODE\0" + text.encode("utf-16-be")
    first, second, data = 8, 26, 44
    header = struct.pack(">2sHI", b"MM", 42, first)
    to_second = struct.pack(">HHHIII", 1, _EXIF_IFD, _LONG, 1, second, 0)
    to_data = struct.pack(">HHHIII", 1, _USER_COMMENT, _UNDEFINED, len(comment), data, 0)
    return header + to_second + to_data + comment


def read(path: str | Path) -> str | None:
    """Return the settings text of a file, or None if it has none. Raises MediaError if the file cannot be read."""
    path = Path(path)
    where = end_of(path)
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):  # opening a pipe would block
            raise MediaError("is no file", where=where, remedy="Give the name of a clip, a frame or a settings file")
        with open(path, "rb") as file:
            found = kind(file.read(HEAD))
            if found is not None:
                return _from_video(file, found) if found.container else _from_picture(file, found)
            if path.suffix.lower() in (".txt", ".json"):
                file.seek(0)
                return _from_text(file.read(TEXT + 1), where)
    except MediaError as error:
        raise MediaError(error.what, where=where, remedy=error.remedy) from error
    except TooMuchError as error:
        raise MediaError(str(error), where=where, remedy="Take another file of the clip") from error
    except OSError as error:
        if type(error).__module__ == "builtins" and error.errno:  # decoders' errors have no errno
            raise MediaError(f"cannot be read ({error.strerror})", where=where,
                             remedy="Give the name of a clip, a frame or a settings file") from error
        raise _damaged(error, where) from error
    except Exception as error:  # decoders raise any error for a damaged file
        raise _damaged(error, where) from error
    raise MediaError("is not a format that can contain settings", where=where,
                     remedy="Give a GIF, PNG, WebP, MP4, WebM or TXT file")


def _damaged(error: Exception, where: str) -> MediaError:
    return MediaError(f"is damaged ({getattr(error, 'strerror', None) or error})", where=where,
                      remedy="Take another file of the clip")


def _from_text(data: bytes, where: str) -> str | None:
    """Return the text of a file in UTF-8, or in UTF-16, which Windows' Notepad and PowerShell write."""
    if len(data) > TEXT:
        raise MediaError(f"has more than the {TEXT // 2**20} MB that are read", where=where,
                         remedy="Give a settings file")
    wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        return data.decode("utf-16" if wide else "utf-8-sig") or None
    except UnicodeDecodeError as error:
        raise MediaError(f"is damaged, or no text in UTF-8 or UTF-16 ({error.reason} at byte {error.start})",
                         where=where, remedy="Save it as UTF-8") from None


def _from_picture(file: BinaryIO, found: Kind) -> str | None:
    with decode.still(file, found) as image:
        if found.picture == "GIF":
            comment = image.info.get("comment", b"")
            return _decoded(comment) or None
        if found.picture == "PNG":
            # `info` has the chunks before the pixels; `text` loads the picture to find chunks after them.
            return image.info.get(PNG_KEY) or image.text.get(PNG_KEY) or None
        tags = image.getexif()
        return _user_comment(tags.get_ifd(_EXIF_IFD).get(_USER_COMMENT)) or _decoded(tags.get(_DESCRIPTION)) or None


def _from_video(file: BinaryIO, found: Kind) -> str | None:
    file.seek(0)
    with opened(file, found.container, most_pixels=PIXELS) as container:
        return of_container(container)


def of_container(container: Any) -> str | None:
    """Return the settings text of a video that PyAV has opened, or None."""
    return {key.lower(): value for key, value in container.metadata.items()}.get(VIDEO_KEY) or None


def _decoded(value: bytes | str | None) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value or ""


def _user_comment(value: bytes | str | None) -> str:
    """Return the text of a UserComment: eight bytes that name the encoding, then the text (Exif 2.3, 4.6.5)."""
    if not isinstance(value, bytes):
        return value or ""
    code, data = value[:8], value[8:]
    if code == b"UNICODE\0":
        # Exif does not specify the byte order. The text is mostly ASCII, so the order with more ASCII is right.
        big, little = (data.decode(f"utf-16-{order}", "replace") for order in ("be", "le"))
        return max(big, little, key=lambda text: sum(" " <= c <= "~" for c in text))
    return _decoded(data if code in (b"ASCII\0\0\0", b"\0" * 8) else value)
