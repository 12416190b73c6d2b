"""Detect the kind of a user's file or of base64 text in a request.

The first bytes decide, so that only pictures, videos and sounds are ever opened: no playlists that name other files,
no formats that an interpreter runs, and no other formats that Pillow or ffmpeg support.
"""
from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass

import numpy as np
from PIL import Image

from animatediff.media.budget import BYTES, TooMuchError

HEAD = 512  # number of first bytes that are looked at
READ_SOUND = "WAV, MP3, FLAC, Ogg, Opus, M4A, AAC, AIFF, CAF or WMA, or a video with sound"
READ = "PNG, JPEG, WebP, GIF, BMP, TIFF, AVIF or HEIC, or MP4, MOV, WebM, MKV, AVI, MPG, TS, WMV, FLV or OGV"


@dataclass(frozen=True)
class Kind:
    """The kind of a file."""

    ending: str  # of file names
    picture: str = ""  # Pillow's name of the format, for pictures
    container: str = ""  # ffmpeg's name of the container, for videos and sounds


# Regular expressions for the first bytes of files.
_KINDS = (
    (rb"\x89PNG\r\n\x1a\n", Kind("png", "PNG")), (rb"\xff\xd8\xff", Kind("jpg", "JPEG")),
    (rb"GIF8[79]a", Kind("gif", "GIF")), (rb"RIFF....WEBP", Kind("webp", "WEBP")), (rb"BM", Kind("bmp", "BMP")),
    (rb"II\*\0|MM\0\*", Kind("tif", "TIFF")),
    (rb"\x1aE\xdf\xa3", Kind("webm", container="matroska")), (rb"RIFF....AVI ", Kind("avi", container="avi")),
    (rb"....(moov|mdat|wide|free|skip|pnot)", Kind("mov", container="mp4")),  # old QuickTime files without `ftyp`
    (rb"\0\0\x01\xba", Kind("mpg", container="mpeg")), (rb"\0\0\x01\xb3", Kind("m2v", container="mpegvideo")),
    (rb"G.{187}G.{187}G|.{4}G.{191}G.{191}G", Kind("ts", container="mpegts")),
    (rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11", Kind("wmv", container="asf")), (rb"FLV\x01", Kind("flv", container="flv")),
    (rb"OggS", Kind("ogv", container="ogg")))  # fmt: skip
# Brands of ISO base media files (ISO/IEC 14496-12), which can be HEIF pictures or videos.
_AVIF = {b"avif", b"avis"}
_HEIC = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1", b"mif2"}
_VIDEO = re.compile(rb"iso.|mp4.|mp7.|avc.|hvc1|hev1|av01|M4V.|qt  |3gp.|3g2.|3ge.|dash|msdh|msix|f4v |F4V |MSNV|XAVC|"
                    rb"mmp4|mjp2|NDX.|cmf.|dby1|piff|kddi")
_SOUNDS = (
    (rb"RIFF....WAVE|RF64....WAVE", Kind("wav", container="wav")), (rb"fLaC", Kind("flac", container="flac")),
    (rb"FORM....AIF[FC]", Kind("aiff", container="aiff")), (rb"caff", Kind("caf", container="caf")),
    (rb"ID3|\xff[\xe2\xe3\xf2-\xf5\xfa-\xfd]", Kind("mp3", container="mp3")),
    (rb"\xff[\xf0\xf1\xf8\xf9]", Kind("aac", container="aac")),
    (rb"....ftyp(M4A |M4B |F4A )", Kind("m4a", container="mp4")))  # fmt: skip
_DATA_URI = re.compile(r"data:[\w./+;=-]{0,200},", re.ASCII)


def kind(head: bytes) -> Kind | None:
    """Return the kind of a file by its first bytes, or None if it is no supported picture or video."""
    if head[4:8] == b"ftyp":
        return _of_brands(head)
    return next((found for magic, found in _KINDS if re.match(magic, head[:HEAD], re.DOTALL)), None)


def sound_kind(head: bytes) -> Kind | None:
    """Return the kind of a sound or video file by its first bytes, or None if it is not supported."""
    found = next((found for magic, found in _SOUNDS if re.match(magic, head[:HEAD], re.DOTALL)), None) or kind(head)
    return found if found and found.container else None


def _of_brands(head: bytes) -> Kind | None:
    size = int.from_bytes(head[:4], "big")
    others = [head[at:at + 4] for at in range(16, min(size, len(head)) - 3, 4)]
    brands = {head[8:12], *others}
    if brands & _AVIF:
        return Kind("avif", "AVIF")
    if brands & _HEIC:
        return Kind("heic", "HEIF")
    return Kind("mp4", container="mp4") if any(map(_VIDEO.fullmatch, brands)) else None


def ending(data: bytes) -> str:
    """Return the file ending for these bytes, or "" for an unsupported file."""
    found = kind(data[:HEAD]) or sound_kind(data[:HEAD])
    return found.ending if found else ""


def from_base64(text: str) -> bytes | None:
    """Return the bytes of a text in base64 or a data URI, or None for any other text.

    Raises TooMuchError if they are more than BYTES.
    """
    match = _DATA_URI.match(text)
    begin = match.end() if match else 0
    if (len(text) - begin) // 4 * 3 > BYTES:
        raise TooMuchError(f"has more than the {BYTES // 2**20} MB that are read")
    try:
        return base64.b64decode("".join(text[begin:].split()), validate=True)
    except (binascii.Error, ValueError):
        return None


def eight_bits(image: Image.Image) -> Image.Image:
    """Return a 16-bit picture scaled to 8 bits, and others unchanged. Pillow itself would clip the values."""
    if not image.mode.startswith("I"):
        return image
    pixels = np.asarray(image)
    found = np.empty(pixels.shape, np.uint8)
    for row, line in enumerate(pixels):
        found[row] = (np.clip(line, 0, 65535).astype(np.uint32) + 128) // 257
    return Image.fromarray(found)
