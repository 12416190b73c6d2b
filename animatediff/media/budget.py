"""Limits for reading user files.

A small file can claim a huge size. So the claims in its header are checked before decoding, and decoded frames are
counted.
"""
from __future__ import annotations

import time
from dataclasses import dataclass, field

PIXELS = 2**26  # limit for one picture: 8192×8192, or a photo of 64 megapixels
BYTES = 2**27  # limit for a picture or video in a request
TEXT = 2**24  # limit for a settings text, in bytes


class TooMuchError(ValueError):
    """A file exceeds a limit. The message is the predicate of a sentence, such as "has more frames than are read"."""


@dataclass
class Budget:
    """Limits for reading one file. Reading stops at the first that is exceeded."""

    frames: int = 100_000
    pixels: int = 2**36  # of all frames together: 1920×1080 for half an hour
    seconds: float = 3600  # wall-clock time of reading
    _begin: float = field(default_factory=time.monotonic)
    _frames: int = 0
    _pixels: int = 0

    def expect(self, frames: int, width: int, height: int) -> None:
        """Check the number and size of frames in a file's header. Raises TooMuchError if they are too many."""
        if frames > self.frames or frames * width * height > self.pixels:
            raise TooMuchError(f"has {frames:,} frames of {width}×{height}, which are more than are read")

    def take(self, width: int, height: int) -> None:
        """Count one picture of this size before it is decoded. Raises TooMuchError if it exceeds a limit."""
        check_size(width, height)
        self._frames += 1
        self._pixels += width * height
        if self._frames > self.frames:
            raise TooMuchError(f"has more than the {self.frames:,} frames that are read")
        if self._pixels > self.pixels:
            raise TooMuchError(f"has more frames of {width}×{height} than are read: {self._frames - 1}")
        if time.monotonic() - self._begin > self.seconds:
            raise TooMuchError(f"takes longer to read than {self.seconds:g} seconds")


def of_mask(*, video: bool) -> Budget:
    """Return the budget for one pass over a mask's frames, while a user waits.

    Videos may have more pixels, since they are decoded several times as fast.
    """
    return Budget(frames=20_000, pixels=2**32 if video else 2**29, seconds=20)


def of_source() -> Budget:
    """Return the budget for one pass over a source video: 1920×1080 for half an hour at 60 frames per second."""
    return Budget(pixels=2**38)


def check_size(width: int, height: int) -> None:
    """Raise TooMuchError if one picture has more than PIXELS pixels."""
    if width * height > PIXELS:
        raise TooMuchError(f"has {width}×{height} pixels, and at most {PIXELS // 10**6} million are read")


SAMPLE_RATE, CHANNELS = 768_000, 64  # limits of a sound
FRAME_SAMPLES = 2**20  # limit per channel in one packet


@dataclass
class SoundBudget:
    """Limits for decoding the sound of one file. Decoding stops at the first that is exceeded."""

    samples: int = 2**34  # of all channels together: a day of stereo at 96 kHz
    seconds: float = 3600  # wall-clock time of decoding
    _begin: float = field(default_factory=time.monotonic)
    _samples: int = 0

    def take(self, samples: int, channels: int) -> None:
        """Count decoded samples, given per channel. Raises TooMuchError if they exceed a limit."""
        self._samples += samples * channels
        if self._samples > self.samples:
            raise TooMuchError(f"has more than the {self.samples:,} samples that are read")
        if time.monotonic() - self._begin > self.seconds:
            raise TooMuchError(f"takes longer to read than {self.seconds:g} seconds")
