"""Test clips, and decoders that share no code with the writers."""
from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from animatediff.media.write import WRITERS

VIDEOS = ("MP4", "WEBM", "MOV", "MKV")
try:
    import av  # noqa: F401
    ALL = list(WRITERS)
except ImportError:
    ALL = [name for name in WRITERS if name not in VIDEOS]
NEEDS_VIDEO = pytest.mark.skipif("MP4" not in ALL, reason="PyAV is not installed")
SETTINGS = ('{"prompt": "赤い円が右へ動く, a red circle", "emoji": "🎞", "quote": "a \\"b\\"; c=d#e\\n", '
            '"long": "%s"}') % ("word " * 150)


def moving(count: int = 12, height: int = 48, width: int = 64, shades: bool = True) -> list[np.ndarray]:
    """A square that moves over a smooth still background. With `shades` it has far more than 256 colours."""
    y, x = np.mgrid[:height, :width].astype(float)
    base = np.stack([x / width * 200 + 20, y / height * 200 + 20, (x + y) / (height + width) * 180 + 40], -1)
    if not shades:
        base[:] = (200, 210, 220)
    frames = []
    for index in range(count):
        frame = base.copy()
        left = 4 + index * 3
        frame[height // 4:height // 4 + 16, left:left + 16] = (220, 40, 60)
        frames.append(frame.astype(np.uint8))
    return frames


def noise(count: int, height: int = 64, width: int = 96) -> list[np.ndarray]:
    """Frames that no format can compress."""
    return list(np.random.default_rng(0).integers(0, 256, (count, height, width, 3), np.uint8))


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Return the peak signal-to-noise ratio in dB, in float64."""
    error = ((a.astype(float) - b.astype(float)) ** 2).mean()
    return float("inf") if error == 0 else 10 * np.log10(255 ** 2 / error)


class Ffmpeg:
    """The ffmpeg program of imageio-ffmpeg: another build than the library that writes, in another process."""

    def __init__(self) -> None:
        self.program = pytest.importorskip("imageio_ffmpeg").get_ffmpeg_exe()

    def describe(self, path: Path) -> str:
        command = [self.program, "-hide_banner", "-i", str(path)]
        return subprocess.run(command, capture_output=True, text=True).stderr

    def size(self, path: Path) -> tuple[int, int]:
        """Return (height, width)."""
        line = next(line for line in self.describe(path).splitlines() if "Video:" in line)
        width, height = re.search(r" ([1-9]\d*)x(\d+)", line).groups()
        return int(height), int(width)

    def decode(self, path: Path, pixels: str = "rgb24") -> np.ndarray:
        """Return all frames as stored: rgb24 [n h w 3], or [n bytes] for another pixel format."""
        command = [self.program, "-v", "error", "-i", str(path), "-fps_mode", "passthrough", "-pix_fmt", pixels,
                   "-sws_flags", "accurate_rnd+full_chroma_int+bicubic", "-f", "rawvideo", "-"]
        raw = subprocess.run(command, capture_output=True, check=True)
        assert not raw.stderr, raw.stderr
        height, width = self.size(path)
        data = np.frombuffer(raw.stdout, np.uint8)
        if pixels == "rgb24":
            return data.reshape(-1, height, width, 3)
        return data.reshape(-1, height * width * 3 // 2 if pixels == "yuv420p" else height * width * 3)


def tree(folder: Path) -> list[str]:
    """Return the files below a folder, as relative paths."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def frames_in(path: Path) -> int:
    if path.suffix[1:].upper() in VIDEOS:
        import cv2

        video, count = cv2.VideoCapture(str(path)), 0
        while video.read()[0]:
            count += 1
        return count
    with Image.open(path) as image:
        return image.n_frames
