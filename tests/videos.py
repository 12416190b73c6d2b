"""Videos for tests, written by PyAV itself."""
from __future__ import annotations

import numpy as np
import pytest

av = pytest.importorskip("av")


def write_video(path, frames, fps, *, sound=False):
    """Write a lossless video of frames, uint8 [h w 3]. The sound is a tone that gets louder."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264rgb", rate=fps)
        stream.width, stream.height, stream.pix_fmt = frames[0].shape[1], frames[0].shape[0], "rgb24"
        stream.options = {"qp": "0", "g": "4"}
        heard = output.add_stream("aac", rate=16000, layout="mono") if sound else None
        for frame in frames:
            output.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        output.mux(stream.encode())
        if heard is not None:
            t = np.arange(16000 * len(frames) // fps) / 16000
            tone = (np.sin(2 * np.pi * 440 * t) * t / t[-1] * 0.8).astype(np.float32)
            for start in range(0, len(tone) - 1023, 1024):
                block = av.AudioFrame.from_ndarray(tone[None, start:start + 1024], format="fltp", layout="mono")
                block.sample_rate, block.pts = 16000, start
                output.mux(heard.encode(block))
            output.mux(heard.encode())
