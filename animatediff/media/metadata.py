"""The settings text inside a file: how each format stores it, and reading it back.

One UTF-8 string travels: GIF comment extension; PNG and APNG iTXt chunk `parameters` (the key that the WebUI
reads); WebP EXIF UserComment; the `comment` tag of MP4 and WebM; a TXT file is the string itself.
"""
from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

from PIL import Image

from animatediff.errors import MediaError
from animatediff.media.pyav import library

PNG_KEY = "parameters"
VIDEO_KEY = "comment"
_EXIF_IFD, _USER_COMMENT, _DESCRIPTION = 0x8769, 0x9286, 0x010E  # tags
_LONG, _UNDEFINED = 4, 7  # types


def check(text: str) -> str:
    """The text itself, if every container can carry it."""
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
    """Comment extension (GIF89a, section 24): sub-blocks of up to 255 bytes."""
    data = text.encode("utf-8")
    blocks = (data[i:i + 255] for i in range(0, len(data), 255))
    return b"\x21\xfe" + b"".join(bytes([len(b)]) + b for b in blocks) + b"\0" if data else b""


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """One PNG chunk with its length and check sum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_text(text: str) -> bytes:
    """An uncompressed iTXt chunk (PNG, section 11.3.3.4)."""
    return png_chunk(b"iTXt", PNG_KEY.encode() + b"\0\0\0\0\0" + text.encode("utf-8")) if text else b""


def exif(text: str) -> bytes:
    """EXIF payload (TIFF, without the `Exif` marker that JPEG needs) with UserComment in UTF-16.

    Two directories of one entry each (TIFF 6.0, section 2). Written here because Pillow 9 gives the comment a type that
    other readers do not expect.
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
    """The settings text of a file that a writer made, or None if it has none."""
    path = Path(path)
    try:
        with open(path, "rb") as file:
            head = file.read(16)
    except OSError as error:
        raise MediaError(f"cannot be read ({error.strerror})", where=str(path),
                         remedy="Give the name of a clip, a frame or a settings file") from error
    try:
        if head.startswith((b"GIF8", b"\x89PNG", b"RIFF", b"\xff\xd8")):
            return _from_picture(path)
        if head[4:8] == b"ftyp" or head.startswith(b"\x1aE\xdf\xa3"):
            return _from_video(path)
        if path.suffix.lower() in (".txt", ".json"):
            return path.read_bytes().decode("utf-8-sig") or None
    except (OSError, SyntaxError, ValueError, struct.error) as error:
        raise MediaError(f"is damaged ({error})", where=str(path), remedy="Take another file of the clip") from error
    raise MediaError("is no format that carries settings", where=str(path),
                     remedy="Give a GIF, PNG, WebP, MP4, WebM or TXT file")


def _from_picture(path: Path) -> str | None:
    with Image.open(path) as image:
        if image.format == "GIF":
            comment = image.info.get("comment", b"")
            return _decoded(comment) or None
        if image.format == "PNG":
            # `info` has what stands before the pixels, `text` loads the picture for what may stand behind.
            return image.info.get(PNG_KEY) or image.text.get(PNG_KEY) or None
        tags = image.getexif()
        return _user_comment(tags.get_ifd(_EXIF_IFD).get(_USER_COMMENT)) or _decoded(tags.get(_DESCRIPTION)) or None


def _from_video(path: Path) -> str | None:
    av = library()
    try:
        with av.open(str(path), metadata_errors="replace") as container:
            return of_container(container)
    except av.FFmpegError as error:
        raise ValueError(error.strerror or str(error)) from error


def of_container(container: Any) -> str | None:
    """The settings text of a video that PyAV has opened."""
    return {key.lower(): value for key, value in container.metadata.items()}.get(VIDEO_KEY) or None


def _decoded(value: bytes | str | None) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value or ""


def _user_comment(value: bytes | str | None) -> str:
    """UserComment: eight bytes that name the code, then the text (Exif 2.3, 4.6.5)."""
    if not isinstance(value, bytes):
        return value or ""
    code, data = value[:8], value[8:]
    if code == b"UNICODE\0":
        # Exif leaves the byte order open. Settings are ASCII for the most part, which shows in the right one alone.
        big, little = (data.decode(f"utf-16-{order}", "replace") for order in ("be", "le"))
        return max(big, little, key=lambda text: sum(" " <= c <= "~" for c in text))
    return _decoded(data if code in (b"ASCII\0\0\0", b"\0" * 8) else value)
