"""PyAV (ffmpeg's libraries from PyPI). It is imported only when a video or sound is first needed."""
from __future__ import annotations

from fractions import Fraction
from types import ModuleType
from typing import Any

import numpy as np

from animatediff.packages import extra, needed

EXTRA = extra("video", "av")
ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}


def library() -> ModuleType:
    """Return the module `av`. Raises MediaError, which says how to install it, if it is missing."""
    return needed("av", "av (PyAV)", "video", EXTRA)


def opened(file: Any, container: str, *, most_pixels: int) -> Any:
    """Return PyAV's container for reading a video or sound.

    file: an open file, never a name, which ffmpeg could take for a protocol.
    container: ffmpeg's name of the container. ffmpeg must not detect it, since some containers open other files or
    ports; opening other files is refused as well.
    most_pixels: frames with more pixels are refused.
    """
    limit = {"max_pixels": str(most_pixels)}
    found = library().open(file, format=container, metadata_errors="replace", io_open=_refuse,
                           container_options={"protocol_whitelist": "none", "format_whitelist": container})
    for stream in found.streams.video:
        stream.codec_context.options = {**stream.codec_context.options, **limit}
    return found


def video_stream(container: Any) -> Any:
    """Return the first video stream of a container that is not a cover picture, or None."""
    from av.stream import Disposition

    return next((stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic),
                None)


def decoder_of(stream: Any, *, most_pixels: int) -> Any:
    """Return the decoder for a video stream's packets.

    For VP8 and VP9 with transparency it is libvpx, since ffmpeg's own decoders ignore transparency.
    """
    alpha = ALPHA_DECODERS.get(stream.codec_context.name)
    modes = {value for name, value in stream.metadata.items() if name.lower() == "alpha_mode"}
    if alpha is None or modes != {"1"} or alpha not in library().codecs_available:
        return stream.codec_context
    decoder = library().CodecContext.create(alpha, "r")
    decoder.extradata = stream.codec_context.extradata
    decoder.options = {"max_pixels": str(most_pixels)}
    return decoder


def _refuse(url: str, *_: Any) -> Any:
    raise PermissionError(f"a video may not open other files ({url[:60]})")


def format_of(pixels: np.ndarray) -> str:
    """Return ffmpeg's pixel format for an array [h w c] with 3 or 4 channels of 8 or 16 bits."""
    return {3: "rgb", 4: "rgba"}[pixels.shape[2]] + {
        (1, 3): "24", (1, 4): "", (2, 3): "48le", (2, 4): "64le"}[pixels.itemsize, pixels.shape[2]]


def video_frame(pixels: np.ndarray, index: int, fps: Fraction) -> Any:
    """Return frame `index` of a clip for ffmpeg's filters and encoders, from uint8 or uint16 [h w c], c 3 or 4."""
    name, (height, width) = format_of(pixels), pixels.shape[:2]
    frame = library().VideoFrame(width, height, name)
    plane, rows = frame.planes[0], pixels.reshape(height, -1).view(np.uint8)
    memory = np.frombuffer(plane, np.uint8).reshape(height, plane.line_size)  # a line may be padded
    memory[:, :rows.shape[1]] = rows
    place(frame, index, fps)
    return frame


def place(frame: Any, index: int, fps: Fraction) -> None:
    """Set the time of a video's frame to that of frame `index` of a clip."""
    frame.pts, frame.time_base = index, 1 / fps
    if hasattr(frame, "duration"):  # PyAV 14
        frame.duration = 1
