"""Unusual videos, made by imageio-ffmpeg's program. Frame n is a flat grey, so each picture reveals its number."""
from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

STEP, FRAMES = 3, 60  # step of grey between frames; number of frames (2 seconds)
SCENE = f"nullsrc=s=96x64:r=30:d=2,format=yuv444p,geq=lum='20+{STEP}*N':cb=128:cr=128"
X264 = "-c:v libx264 -preset ultrafast -qp 4 -bf 0".split()
B_FRAMES = "-c:v libx264 -preset fast -qp 4 -bf 3 -g 12 -sc_threshold 0".split()
TRANSPARENT = "color=red@0.0:s=96x64:r=10:d=1,format={}"


class Maker:
    """Files in `folder`, each made once."""

    def __init__(self, program: str, folder: Path):
        self.program, self.folder = program, folder

    def __call__(self, name: str) -> Path:
        path = self.folder / FILES[name]
        if not path.exists():
            MAKE[name](self, path)
        return path

    def run(self, *words: object) -> None:
        subprocess.run([self.program, "-y", "-v", "error", *map(str, words)], check=True, capture_output=True)

    def scene(self, path: Path, *words: str, scene: str = SCENE) -> None:
        self.run("-f", "lavfi", "-i", scene, *words, path)

    def numbers(self, path: Path, filters: str) -> list[int]:
        """Return the numbers of the frames that ffmpeg makes of a file with these filters."""
        command = [self.program, "-v", "error", "-i", path, "-vf", filters, "-fps_mode", "passthrough", "-f",
                   "rawvideo", "-pix_fmt", "gray", "-s", "1x1", "-"]
        return [number_of(level) for level in subprocess.run(command, check=True, capture_output=True).stdout]


def number_of(picture: object) -> int:
    """Return the number of the frame that a picture, or its grey, belongs to. Grey 20 is video's black plus 4."""
    level = float(np.asarray(picture).mean())
    return round(((level * 219 / 255 + 16) - 20) / STEP)


def _simple(*words: str, scene: str = SCENE) -> Callable[[Maker, Path], None]:
    return lambda make, path: make.scene(path, *words, scene=scene)


def _vfr(make: Maker, path: Path) -> None:
    """20 frames at 30 fps, then 40 frames at 10 fps."""
    make.scene(path, "-vf", "setpts='if(lt(N,20),N/30,20/30+(N-20)/10)/TB'", "-fps_mode", "vfr", *X264)


def _copied(*words: object, of: str = "B-frames") -> Callable[[Maker, Path], None]:
    return lambda make, path: make.run(*words, "-i", make(of), "-c", "copy", path)


def _cover(make: Maker, path: Path) -> None:
    picture = path.with_suffix(".png")
    Image.new("RGB", (32, 32), "red").save(picture)
    make.run("-i", picture, "-i", make("B-frames"), "-map", "0", "-map", "1", "-c", "copy", "-disposition:v:0",
             "attached_pic", path)


def _cut(of: str, share: float = 0.6) -> Callable[[Maker, Path], None]:
    def write(make: Maker, path: Path) -> None:
        data = make(of).read_bytes()
        path.write_bytes(data[:int(len(data) * share)])

    return write


def _cut_in_front(make: Maker, path: Path) -> None:
    data = make("TS").read_bytes()
    path.write_bytes(data[188 * (len(data) // 188 // 3):])


def _piped(make: Maker, path: Path) -> None:
    """Written to a pipe, so without duration and index."""
    done = subprocess.run([make.program, "-v", "error", "-i", make("B-frames"), "-c", "copy", "-f", "matroska", "-"],
                          check=True, capture_output=True)
    path.write_bytes(done.stdout)


MAKE: dict[str, Callable[[Maker, Path], None]] = {
    "B-frames": _simple(*B_FRAMES),
    "VFR": _vfr,
    "rotated": _copied("-display_rotation:v:0", "90"),
    "edit list": _copied("-ss", "0.61"),
    "cover art": _cover,
    "in front": _simple(*X264, "-g", "12", "-movflags", "+faststart"),
    "cut off": _cut("in front"),
    "alpha": _simple("-c:v", "qtrle", scene=TRANSPARENT.format("argb")),
    "alpha of ProRes": _simple("-c:v", "prores_ks", "-profile:v", "4444", scene=TRANSPARENT.format("yuva444p10le")),
    "alpha of VP9": _simple("-c:v", "libvpx-vp9", "-auto-alt-ref", "0", scene=TRANSPARENT.format("yuva420p")),
    "wide pixels": _simple("-vf", "setsar=2", *X264),
    "odd size": _simple("-vf", "scale=97:63,setsar=1", *X264),
    "one frame": _simple("-frames:v", "1", *X264),
    "10 bit": _simple("-vf", "format=yuv420p10le", "-c:v", "libx265", "-x265-params", "log-level=none:lossless=1"),
    "29.97": _simple("-r", "30000/1001", *X264),
    "long GOP": _simple(*X264, "-g", "600"),
    "open GOP": _simple(*B_FRAMES, "-x264-params", "open-gop=1"),
    "open GOP of H.265": _simple("-c:v", "libx265", "-x265-params", "keyint=12:open-gop=1:log-level=none:qp=4"),
    "intra refresh": _simple(*X264, "-x264-params", "intra-refresh=1:keyint=12"),
    "interlaced": _simple("-vf", "format=yuv420p", *B_FRAMES, "-flags", "+ildct+ilme"),
    "TS": _simple(*B_FRAMES),
    "TS cut in front": _cut_in_front,
    "MPEG": _simple("-c:v", "mpeg2video", "-q:v", "1", "-bf", "2"),
    "AVI": _simple("-c:v", "mpeg4", "-q:v", "1", "-bf", "2"),
    "MJPEG": _simple("-pix_fmt", "yuvj444p", "-c:v", "mjpeg", "-q:v", "1"),
    "FLV": _simple("-c:v", "flv1", "-q:v", "1"),
    "WMV": _simple("-c:v", "wmv2", "-q:v", "1"),
    "OGV": _simple("-c:v", "libtheora", "-q:v", "10"),
    "VP8": _simple("-c:v", "libvpx", "-crf", "4", "-b:v", "4M", "-auto-alt-ref", "1"),
    "VP9": _simple("-c:v", "libvpx-vp9", "-crf", "4", "-b:v", "0", "-auto-alt-ref", "1", "-lag-in-frames", "16"),
    "cut WebM": _cut("VP9"),
    "FFV1": _simple("-c:v", "ffv1", "-pix_fmt", "gbrp"),
    "late start": _copied("-itsoffset", "5"),
    "fragments": _simple(*B_FRAMES, "-movflags", "frag_keyframe+empty_moov"),
    "piped": _piped,
}
ENDINGS = {"alpha": "mov", "alpha of ProRes": "mov", "TS": "ts", "TS cut in front": "ts", "MPEG": "mpg", "AVI": "avi",
           "MJPEG": "avi", "FLV": "flv", "WMV": "wmv", "OGV": "ogv", "VP8": "webm", "VP9": "webm", "cut WebM": "webm",
           "alpha of VP9": "webm", "FFV1": "mkv", "late start": "mkv", "piped": "mkv"}
FILES = {name: f"{name}.{ENDINGS.get(name, 'mp4')}".replace(" ", "-") for name in MAKE}
QUICK = ("B-frames", "VFR", "rotated", "edit list", "cover art", "alpha")  # made in every test run
