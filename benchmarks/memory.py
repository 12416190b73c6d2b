"""Peak memory of a render and of each writer by clip length, each case in its own process.

The figure is the highest resident size during the work minus the resident size just before it, after everything has
been imported, loaded and used once. Linux records the peak and can reset it (/proc/self/clear_refs). On other systems
it is ru_maxrss, which includes the peak of loading.
"""
from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.process import child, peak, reset_peak, resident

LENGTHS = (16, 64, 256)
LONG = (32, 1000)  # clips whose state is saved for --resume, with the sampler that has the largest state
FROM_VIDEO = (64, 3000)  # clips from a source video
SOURCE = (1280, 720)  # pixels of that video
# Widths of UNet and VAE, width of the text, pixels. "demo": as shipped. "middle": activations are as large as weights.
MODELS = {
    "tiny": dict(unet=(32, 32, 32, 32), vae=(32, 32, 32, 32), text=32, pixels=64),
    "demo": dict(unet=(64, 64, 64, 64), vae=(32, 64, 64, 64), text=128, pixels=64),
    "middle": dict(unet=(128, 256, 512, 512), vae=(64, 128, 256, 256), text=256, pixels=256),
}
RENDERED = ("GIF", "PNG")  # default formats of `animatediff render`
FORMATS = ("GIF", "GIF, ffmpeg's palette", "MP4", "WEBM", "WEBP", "APNG", "PNG")


def run(quick: bool = False) -> list[dict]:
    lengths = (4, 8) if quick else LENGTHS
    cases = [("render", model, frames) for model in (["tiny"] if quick else ["demo", "middle"]) for frames in lengths]
    cases += [("long", model, frames) for model in (["tiny"] if quick else ["tiny", "demo"])
              for frames in ((4, 70) if quick else LONG)]
    cases += [(work, "tiny", frames) for work in ("source", "read") for frames in ((4, 20) if quick else FROM_VIDEO)]
    formats = ("GIF", "MP4") if quick else FORMATS
    cases += [("write", name, frames) for name in formats for frames in lengths]
    return [measure(*case, size=48 if quick else 512) for case in cases]


def measure(work: str, what: str, frames: int, size: int) -> dict:
    """Measure one case in a child process."""
    row = child("benchmarks.memory", work, what, frames, size)
    print(f"  {work} {what}, {frames} frames: {row['peak MiB']:.1f} MiB", flush=True)
    return row


def _child(work: str, what: str, frames: int, size: int) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        task, pixels = WORKS[work](what, size, Path(folder))
        task(2)  # warm up: imports, codecs, thread pools and permanent buffers
        base, start = resident(), time.perf_counter()
        reset = reset_peak()
        task(frames)
        highest = peak(reset)
        return {
            "work": work, "what": what, "pixels": pixels, "frames": frames, "before MiB": base / 2**20,
            "peak MiB": max(0.0, highest - base) / 2**20, "seconds": time.perf_counter() - start,
        }  # fmt: skip


def _write(name: str, size: int, folder: Path) -> tuple[Callable[[int], None], int]:
    """Return a task that feeds a writer with frames drawn one by one, and the pixels. torch is not imported."""
    from animatediff.media.write import ClipWriter, WriteOptions
    from benchmarks.scene import Scene

    format, _, ffmpeg = name.partition(",")
    scene, options = Scene(size), WriteOptions(gif_palette="ffmpeg" if ffmpeg else "clip")

    def task(frames: int) -> None:
        with ClipWriter(folder, [format], fps=8, options=options) as writer:
            for index in range(frames):
                writer.add(scene.frame(index))

    return task, size


def _render(name: str, size: int, folder: Path, *, keep: bool = False, **more) -> tuple[Callable[[int], None], int]:
    """Return a task that renders a clip from prompt to files, in windows of 16 with guidance, and the pixels."""
    from animatediff.clip.resume import Keeper
    from animatediff.engine import models
    from animatediff.engine.pipeline import Pipeline
    from animatediff.media.write import ClipWriter
    from animatediff.settings import Settings

    plan = MODELS[name]
    if name == "demo" and models.DEMO_CHECKPOINT.is_file() and models.DEMO_MODULE.is_file():
        pipeline = Pipeline.load(device="cpu", dtype="fp32")
    else:
        from benchmarks.stand_in import pipeline_of

        pipeline = pipeline_of(plan["unet"], plan["vae"], plan["text"], plan["pixels"])
    pixels = pipeline.plan(Settings()).settings.width

    def task(frames: int) -> None:
        settings = Settings(**{
            "enable": True, "prompt": "a red circle moving right", "frames": frames, "steps": 1, "seed": 1,
            "size": f"{pixels}x{pixels}", "context_length": 4 if name == "tiny" else 16, "formats": RENDERED, **more})
        keeper = Keeper(folder / "out.state", {}, every=1) if keep else None
        with ClipWriter(folder / "out", RENDERED, fps=8) as writer:
            for frame in pipeline.render(settings, keeper=keeper):
                writer.add(frame)

    return task, pixels


def _long(name: str, size: int, folder: Path) -> tuple[Callable[[int], None], int]:
    """Like _render, with enough steps for a multistep solver's history and the state saved after each step."""
    return _render(name, size, folder, steps=3, sampler="UniPC", keep=True)


def _source(name: str, size: int, folder: Path) -> tuple[Callable[[int], None], int]:
    """As _render, from a video whose frames are much larger than the clip's."""
    return _render(name, size, folder, video_path=_video(folder), denoising_strength=0.05)


def _read(name: str, size: int, folder: Path) -> tuple[Callable[[int], None], int]:
    """A source video's frames, chosen and fitted, without a model. torch is imported with the rest."""
    from animatediff.clip import pictures
    from animatediff.settings import Settings

    path, kept = _video(folder), []

    def task(frames: int) -> None:
        kept[:] = [pictures.read(Settings(video_path=path, frames=frames, size="512x288"))]

    return task, 512


def _video(folder: Path) -> str:
    """As many frames as the longest clip takes, 30 in a second."""
    import av
    import numpy as np

    path, (width, height) = folder / "source.mp4", SOURCE
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.options = width, height, {"preset": "ultrafast"}
        for index in range(max(FROM_VIDEO)):
            picture = np.full((height, width, 3), index % 256, np.uint8)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        output.mux(stream.encode())
    return str(path)


WORKS = {"render": _render, "long": _long, "source": _source, "read": _read, "write": _write}


if __name__ == "__main__":
    print(json.dumps(_child(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))))
