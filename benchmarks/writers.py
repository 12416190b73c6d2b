"""Frames per second of our writers and of imageio with the same format and settings, with size and PSNR of the files.

Our writers take frames one by one, sync the file to disk and rename it. imageio gets all frames at once, as in its
documentation. Videos have the same encoder options; imageio encodes in a separate process. For GIF, imageio uses
Pillow's palette per frame without dithering; ours uses one dithered palette for the clip, or the same as imageio. A
further case has ffmpeg's palette on both sides.
"""
from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageSequence

from animatediff.media.write import ClipWriter, WriteOptions
from benchmarks.scene import Scene
from benchmarks.timing import alternate

FPS = 8
DEFAULT = WriteOptions()
METADATA = '{"prompt": "a red ball over hills"}'
Frames = list[np.ndarray]


@dataclass(frozen=True)
class Contest:
    """A comparison of one format."""

    name: str
    format: str  # of our writer
    theirs: Callable[[Path, Frames], None]  # writes the same with imageio into a folder
    options: WriteOptions = DEFAULT

    def ours(self, folder: Path, frames: Frames) -> None:
        with ClipWriter(folder, [self.format], fps=FPS, metadata=METADATA, options=self.options) as writer:
            for frame in frames:
                writer.add(frame)


def _pillow(file: str, **options) -> Callable[[Path, Frames], None]:
    def write(folder: Path, frames: Frames) -> None:
        import imageio.v3 as iio

        iio.imwrite(folder / file, np.stack(frames), plugin="pillow", duration=1000 / FPS, loop=0, **options)

    return write


def _ffmpeg(file: str, codec: str, *options: str) -> Callable[[Path, Frames], None]:
    def write(folder: Path, frames: Frames) -> None:
        import imageio.v3 as iio

        iio.imwrite(folder / file, np.stack(frames), plugin="FFMPEG", fps=FPS, codec=codec, quality=None,
                    macro_block_size=2, ffmpeg_log_level="error", output_params=list(options))

    return write


def _palette_gif(folder: Path, frames: Frames) -> None:
    """Write with ffmpeg's palette by imageio_ffmpeg, since imageio's own plugin refuses to write GIF with ffmpeg."""
    from imageio_ffmpeg import write_frames

    height, width = frames[0].shape[:2]
    graph = "split[a][b];[a]palettegen=reserve_transparent=0[p];[b][p]paletteuse=dither=sierra2_4a:diff_mode=rectangle"
    writer = write_frames(folder / "clip.gif", (width, height), fps=FPS, codec="gif", pix_fmt_out="pal8", quality=None,
                          macro_block_size=1, ffmpeg_log_level="error", output_params=["-filter_complex", graph])
    writer.send(None)
    for frame in frames:
        writer.send(frame)
    writer.close()


def _stills(folder: Path, frames: Frames) -> None:
    import imageio.v3 as iio

    for index, frame in enumerate(frames):
        iio.imwrite(folder / f"{index:05d}.png", frame, plugin="pillow")


_X264 = ("-crf", str(DEFAULT.mp4_crf), "-preset", DEFAULT.mp4_preset, "-movflags", "+faststart")
_VP9 = ("-crf", str(DEFAULT.webm_crf), "-b:v", "0", "-deadline", "good", "-cpu-used", "4", "-row-mt", "1")
CONTESTS = (
    Contest("GIF", "GIF", _pillow("clip.gif")),
    Contest("GIF, a palette for each frame", "GIF", _pillow("clip.gif"), WriteOptions("frame", gif_dither=False)),
    Contest("GIF, ffmpeg's palette", "GIF", _palette_gif, WriteOptions(gif_palette="ffmpeg")),
    Contest("MP4", "MP4", _ffmpeg("clip.mp4", "libx264", *_X264)),
    Contest("WEBM", "WEBM", _ffmpeg("clip.webm", "libvpx-vp9", *_VP9)),
    Contest("WEBP", "WEBP", _pillow("clip.webp", quality=DEFAULT.webp_quality, method=4)),
    Contest("APNG", "APNG", _pillow("clip.png")),
    Contest("PNG", "PNG", _stills),
)  # fmt: skip


def run(quick: bool = False) -> list[dict]:
    sizes, count, rounds = ((48,), 6, 1) if quick else ((256, 512), 64, 5)
    rows = []
    for size in sizes:
        scene = Scene(size)
        frames = [scene.frame(index) for index in range(count)]
        rows += [_row(contest, size, frames, rounds, quick) for contest in CONTESTS]
    return rows


def _row(contest: Contest, size: int, frames: Frames, rounds: int, quick: bool) -> dict:
    with tempfile.TemporaryDirectory() as top:
        folders = {"ours": Path(top, "ours"), "imageio": Path(top, "imageio")}
        for folder in folders.values():
            folder.mkdir()
        found = alternate(
            {"ours": lambda: contest.ours(folders["ours"], frames),
             "imageio": lambda: contest.theirs(folders["imageio"], frames)},
            rounds=rounds, seconds=60.0, say="" if quick else f"{contest.name} {size}",
        )  # fmt: skip
        rates = {name: len(frames) / timing.median for name, timing in found.items()}
        row = {"format": contest.name, "size": size, "frames": len(frames), "rounds": len(found["ours"].seconds),
               "ours frames/s": rates["ours"], "imageio frames/s": rates["imageio"],
               "ours/imageio": rates["ours"] / rates["imageio"]}  # fmt: skip
        for name, folder in folders.items():
            files = sorted(p for p in folder.rglob("*") if p.is_file())
            row[f"{name} KB"] = sum(p.stat().st_size for p in files) / 1000
            row[f"{name} PSNR dB"] = _psnr(frames, files)
        return row


def _psnr(frames: Frames, files: list[Path]) -> float | str:
    """Return the PSNR over all pixels of the clip in dB; "lossless", or "N frames" if their number is wrong."""
    found = [frame for file in files for frame in _decoded(file)]
    if len(found) != len(frames):
        return f"{len(found)} frames"
    error = np.mean([((a.astype(np.float32) - b) ** 2).mean(dtype=np.float64) for a, b in zip(frames, found)])
    return "lossless" if error == 0 else float(10 * np.log10(255**2 / error))


def _decoded(file: Path) -> Frames:
    """Return a file's frames: videos are decoded by ffmpeg, which uses the colour tags, other files by Pillow."""
    if file.suffix in (".mp4", ".webm"):
        import imageio.v3 as iio

        exact = ["-sws_flags", "accurate_rnd+full_chroma_int+bicubic"]
        return list(iio.imiter(file, plugin="FFMPEG", output_params=exact))
    with Image.open(file) as image:
        return [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(image)]
