"""A WebUI's response as frames, and measurements of them."""
from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageSequence

from benchmarks.measure import track

MAGIC = {b"GIF8": "GIF", b"RIFF": "WEBP", b"\x89PNG": "PNG", b"\x1aE\xdf\xa3": "WEBM"}


@dataclass
class Item:
    """One entry of a response's `images`. `frames`: [n h w 3] uint8. `fps`: the file's, or 0 for a still."""

    format: str
    frames: np.ndarray
    fps: float
    raw: bytes

    @property
    def plays(self) -> bool:
        return len(self.frames) > 1


def read(raw: bytes) -> Item:
    kind = "MP4" if raw[4:8] == b"ftyp" else MAGIC.get(raw[:4], "")
    if kind in ("MP4", "WEBM"):
        import av

        with av.open(io.BytesIO(raw)) as container:
            stream = container.streams.video[0]
            frames = [f.to_ndarray(format="rgb24") for f in container.decode(stream)]
            return Item(kind, np.stack(frames), float(stream.average_rate), raw)
    with Image.open(io.BytesIO(raw)) as picture:
        kind = "APNG" if picture.format == "PNG" and getattr(picture, "is_animated", False) else picture.format
        frames, durations = [], []
        for frame in ImageSequence.Iterator(picture):
            frames.append(np.array(frame.convert("RGB")))
            durations.append(frame.info.get("duration", 0))
    return Item(kind, np.stack(frames), 1000 * len(frames) / sum(durations) if sum(durations) else 0.0, raw)


def items(answer) -> list[Item]:
    return [read(base64.b64decode(text)) for text in answer.expect().images]


def clip(answer) -> Item:
    """Return the response's only clip."""
    found = [item for item in items(answer) if item.plays]
    assert len(found) == 1, [(item.format, item.frames.shape) for item in found]
    return found[0]


def stills(answer) -> np.ndarray:
    """Return the response's single pictures, [n h w 3]."""
    return np.stack([item.frames[0] for item in items(answer) if not item.plays])


def change(frames: np.ndarray) -> float:
    """Return the median difference of neighbouring frames, of 255."""
    return float(np.median(np.abs(np.diff(frames.astype(float), axis=0)).mean((1, 2, 3))))


def unrelated(pictures: np.ndarray) -> float:
    """Return the median difference of any two pictures, of 255."""
    x = pictures.astype(float)
    return float(np.median([np.abs(x[i] - x[j]).mean() for i in range(len(x)) for j in range(i)]))


def jump(frames: np.ndarray) -> float:
    """Return the median shift of the shape's centre between frames, as a share of the width, or NaN without a shape."""
    centres = np.array([sight.centre for sight in track(list(frames))[0] if sight])
    if len(centres) < len(frames) / 2:
        return float("nan")
    return float(np.median(np.hypot(*np.diff(centres, axis=0).T))) / frames.shape[2]


def assert_one_clip(frames: np.ndarray, stranger: float) -> None:
    """Assert that the frames are coherent.

    Neighbours differ far less than pictures made separately (`stranger`, of 255), and the shape does not jump. Medians
    are used, since the demo model may lose the shape in a frame.
    """
    assert frames.std() > 5, "an empty picture"
    assert change(frames) > 0, "all frames are the same picture"
    assert change(frames) < stranger / 2, f"neighbours differ by {change(frames):.1f}, strangers by {stranger:.1f}"
    way = jump(frames)
    assert not way > 0.1, f"the shape jumps {way:.0%} of the width from frame to frame"
