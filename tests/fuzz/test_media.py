"""Damaged pictures, animations, videos and texts: read, or refused in a sentence, and soon. See inputs.py."""
from __future__ import annotations

import io
import random
import struct
import time
import warnings
import zlib

import numpy as np
import pytest
from inputs import draws, mutated
from PIL import Image, PngImagePlugin, features

from animatediff.errors import MediaError
from animatediff.hosts.shared import clip_reader
from animatediff.media import masks, metadata, opening, read
from animatediff.media.write import WRITERS, ClipWriter

SLOW = 12  # seconds of a core that no input of some kilobytes takes


def written(folder, form) -> bytes:
    with ClipWriter(folder / "a.gif", form, metadata='{"prompt": "a red circle"}') as clip:
        for level in (0, 90, 200):
            clip.add(np.random.default_rng(level).integers(0, level + 1, (16, 24, 3), np.uint8))
    return clip.paths[0].read_bytes()


def saved(kind, mode="RGB", **more) -> bytes:
    file = io.BytesIO()
    first, *rest = (Image.new(mode, (24, 16), value) for value in (0, 90, 200))
    all_of_them = {"save_all": True, "append_images": rest} if kind in ("GIF", "PNG", "TIFF", "WEBP") else {}
    first.save(file, kind, **all_of_them, **more)
    return file.getvalue()


def ftyp(*brands: bytes) -> bytes:
    return struct.pack(">I", 16 + 4 * len(brands)) + b"ftyp" + brands[0] + bytes(4) + b"".join(brands)


@pytest.fixture(scope="module")
def seeds(tmp_path_factory) -> list[bytes]:
    folder = tmp_path_factory.mktemp("seeds")
    found = [written(folder, form) for form in WRITERS]
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", "x" * 3000, zip=True)
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a cat"
    found += [saved("PNG", pnginfo=info), saved("JPEG", exif=exif), saved("WEBP", exif=exif), saved("TIFF"),
              saved("BMP"), saved("GIF", "L"), saved("PNG", "I;16"), saved("TIFF", "L", compression="tiff_lzw")]
    if features.check("avif"):
        found.append(saved("AVIF"))
    tails = (b"", random.Random(0).randbytes(2000), found[1][24:])
    found += [head + tail for tail in tails for head in (
        ftyp(b"isom"), ftyp(b"heic", b"mif1"), ftyp(b"avif"), ftyp(b"qt  "), b"\x1aE\xdf\xa3", b"\0\0\x01\xba",
        b"FLV\x01", b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", b"OggS", (b"G" + bytes(187)) * 4,
        b"RIFF\0\0\0\0AVI ", b"\0\0\0\0moov", b"\xff\xfe", b'{"a": 1}')]
    return found


def swollen(rng: random.Random, data: bytes) -> bytes:
    """The sizes that a picture's head claims, changed to odd ones, with its check sum put right."""
    data = bytearray(data)
    size = [rng.choice((0, 1, 65535, 13_000, 2**31 - 1, 2**32 - 1)) for _ in range(2)]
    if data.startswith(b"\x89PNG"):
        data[16:24] = struct.pack(">2I", *size)
        data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    elif data.startswith(b"GIF8"):
        data[6:10] = struct.pack("<2H", *(side & 0xFFFF for side in size))
    elif data.startswith(b"BM"):
        data[18:26] = struct.pack("<2I", *size)
    return bytes(data)


@pytest.mark.filterwarnings("ignore")
def test_no_file_is_more_than_a_refusal(seeds, tmp_path):
    """In every reader of pictures, videos, masks, and texts inside files."""
    path = tmp_path / "a.json"  # an ending that lets texts through; the others are told by their bytes
    for rng in draws(250):
        data = mutated(rng, seeds)
        if rng.random() < 0.3:
            data = swollen(rng, data)
        path.write_bytes(data)
        begin = time.process_time()
        readers = {"init": lambda: sum(1 for _, _ in zip(read.pictures(path), range(8))),
                   "mask": lambda: masks.read(data, rng.randint(1, 20)), "info": lambda: metadata.read(path),
                   "request": lambda: read.from_bytes(data), "kind": lambda: opening.ending(data),
                   "host": lambda: clip_reader.first_frame(io.BytesIO(data), None)}
        for name, reader in readers.items():
            try:
                reader()
            except MediaError as error:
                assert str(error) and len(str(error)) < 900 and "\n" not in str(error), (name, data[:99])
            except (ValueError, SyntaxError) as error:
                assert type(error) is SyntaxError if name == "host" else name == "request", (name, error, data[:99])
        assert time.process_time() - begin < SLOW, data[:99]


def test_what_is_told_from_its_first_bytes_is_told_from_any():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for rng in draws(2000):
            head = rng.randbytes(rng.randrange(0, 600))
            if rng.random() < 0.5:
                head = rng.choice((b"\0\0\0\x18ftyp", b"G", b"RIFF", b"\0\0\x01", b"II*\0")) + head
            found = opening.kind(head)
            assert found is None or bool(found.picture) != bool(found.container)
