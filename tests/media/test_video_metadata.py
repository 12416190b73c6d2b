"""The settings text in every format: round trips, and reading by other programs."""
from __future__ import annotations

import re
import subprocess

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin
from video_helpers import SETTINGS

from animatediff.errors import MediaError
from animatediff.media import metadata
from animatediff.media.write import WRITERS, ClipWriter

PICTURES = ["GIF", "WEBP", "APNG", "PNG", "TXT"]
# EXIF does not declare the byte order of texts: characters such as U+4100 alone would be ASCII in the other order.
AMBIGUOUS = "".join(chr(byte << 8) for byte in range(0x20, 0x7F))
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters=f"\0{AMBIGUOUS}"), min_size=1, max_size=600)


def write(folder, name, text):
    with ClipWriter(folder / "a.gif", name, metadata=text) as clip:
        clip.add(np.zeros((4, 4, 3), np.uint8))
        clip.add(np.ones((4, 4, 3), np.uint8))
    return clip.paths[0]


@pytest.mark.parametrize("name", PICTURES)
@given(text=TEXTS)
@example(text="\u0100")  # in the other byte order, its UTF-16 is a control character
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_survives(tmp_path, name, text):
    assert metadata.read(write(tmp_path, name, text)) == text


@pytest.mark.parametrize("name", ["MP4", "WEBM"])
@pytest.mark.parametrize("text", [SETTINGS, "x", " spaces ", "line\nbreak\ttab", "円" * 5000, '{"a":1}' * 20000])
def test_any_text_survives_in_videos(tmp_path, name, text):
    pytest.importorskip("av")
    assert metadata.read(write(tmp_path, name, text)) == text


@pytest.mark.parametrize("name", list(WRITERS))
def test_files_without_settings_have_none(tmp_path, name):
    if name in ("MP4", "WEBM"):
        pytest.importorskip("av")
    assert metadata.read(write(tmp_path, name, "")) is None


@pytest.mark.parametrize("name", ["MP4", "WEBM", "GIF"])
def test_the_ffmpeg_program_shows_the_settings(tmp_path, ffmpeg, name):
    pytest.importorskip("av")
    path = write(tmp_path, name, '{"prompt": "赤い円"}')
    command = [ffmpeg.program, "-v", "error", "-i", str(path), "-f", "ffmetadata", "-"]
    shown = subprocess.run(command, capture_output=True, check=True).stdout.decode()
    assert re.search(r'(?i)^comment=\{"prompt": "赤い円"\}$', shown, re.MULTILINE)


def test_webp_exif_read_byte_by_byte(tmp_path):
    data = write(tmp_path, "WEBP", "円 a").read_bytes()
    at = data.index(b"EXIF") + 8
    assert data[at:at + 2] in (b"MM", b"II"), "a bare TIFF header, as the container asks for"
    assert data[20] & 0x08, "and the flag that announces it"
    assert b"UNICODE\0" + "円 a".encode("utf-16-be") in data[at:]


def test_pngs_of_the_webui_are_read(tmp_path):
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", "a cat\nSteps: 20")
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png", pnginfo=info)
    assert metadata.read(tmp_path / "a.png") == "a cat\nSteps: 20"


@pytest.mark.parametrize("comment, text", [
    (b"UNICODE\0" + "cat 猫".encode("utf-16-be"), "cat 猫"), (b"UNICODE\0" + "a cat".encode("utf-16-le"), "a cat"),
    (b"ASCII\0\0\0a cat", "a cat"), (b"\0" * 8 + b"a cat", "a cat")])
def test_user_comments_of_other_programs(tmp_path, comment, text):
    tags = Image.Exif()
    tags.get_ifd(0x8769)[0x9286] = comment
    Image.new("RGB", (4, 4)).save(tmp_path / "a.webp", exif=tags)
    assert metadata.read(tmp_path / "a.webp") == text


def test_image_descriptions_are_read(tmp_path):
    tags = Image.Exif()
    tags[0x010E] = "a cat"
    Image.new("RGB", (4, 4)).save(tmp_path / "a.webp", exif=tags)
    assert metadata.read(tmp_path / "a.webp") == "a cat"


def test_files_that_cannot_be_read(tmp_path):
    pytest.importorskip("av")
    with pytest.raises(MediaError, match="No such file"):
        metadata.read(tmp_path / "none.gif")
    with pytest.raises(MediaError, match="cannot be read"):
        metadata.read(tmp_path)
    (tmp_path / "a.bin").write_bytes(b"what is this")
    with pytest.raises(MediaError, match="not a format"):
        metadata.read(tmp_path / "a.bin")
    for name, head in (("a.png", b"\x89PNG\r\n\x1a\n" + b"\0" * 20), ("a.gif", b"GIF89a"),
                       ("a.mp4", b"\0\0\0\x18ftypisom" + b"\0" * 12), ("a.txt", b"\xff\xfe\xfa")):
        (tmp_path / name).write_bytes(head)
        with pytest.raises(MediaError, match="damaged"):
            metadata.read(tmp_path / name)
