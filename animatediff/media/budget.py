"""How much is read of what users bring. A small file can claim anything, so what it claims is checked before it is
decoded, and what comes of it is counted."""
from __future__ import annotations

import time
from dataclasses import dataclass, field

PIXELS = 2**26  # of one picture: 8192×8192, or a photo of 64 megapixels
BYTES = 2**27  # of a picture or video in a request
TEXT = 2**24  # bytes of a settings text


class TooMuchError(ValueError):
    """Something has more than is read. Says so as the predicate of a sentence."""


@dataclass
class Budget:
    """What reading one file may cost, whichever comes first."""

    frames: int = 100_000
    pixels: int = 2**36  # of all frames together: 1920×1080 for half an hour
    seconds: float = 3600  # of this computer's time
    _begin: float = field(default_factory=time.monotonic)
    _frames: int = 0
    _pixels: int = 0

    def expect(self, frames: int, width: int, height: int) -> None:
        """A file says that it has so many. TooMuchError where they will be too many."""
        if frames > self.frames or frames * width * height > self.pixels:
            raise TooMuchError(f"has {frames:,} frames of {width}×{height}, which are more than are read")

    def take(self, width: int, height: int) -> None:
        """One more picture of this size is to be decoded. TooMuchError where it is not."""
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
    """For one pass over a mask's frames, for which somebody waits. Videos are decoded several times as fast."""
    return Budget(frames=20_000, pixels=2**32 if video else 2**29, seconds=20)


def of_source() -> Budget:
    """For one pass over a source video: 1920×1080 for half an hour at 60 frames per second."""
    return Budget(pixels=2**38)


def check_size(width: int, height: int) -> None:
    """TooMuchError for one picture of this size."""
    if width * height > PIXELS:
        raise TooMuchError(f"has {width}×{height} pixels, and at most {PIXELS // 10**6} million are read")


SAMPLE_RATE, CHANNELS = 768_000, 64  # of a sound, at most
FRAME_SAMPLES = 2**20  # of each channel in one packet


@dataclass
class SoundBudget:
    """What decoding the sound of one file may cost, whichever comes first."""

    samples: int = 2**34  # of all channels together: a day of stereo at 96 kHz
    seconds: float = 3600  # of this computer's time
    _begin: float = field(default_factory=time.monotonic)
    _samples: int = 0

    def take(self, samples: int, channels: int) -> None:
        """So many samples of so many channels were decoded. TooMuchError where they are too many."""
        self._samples += samples * channels
        if self._samples > self.samples:
            raise TooMuchError(f"has more than the {self.samples:,} samples that are read")
        if time.monotonic() - self._begin > self.seconds:
            raise TooMuchError(f"takes longer to read than {self.seconds:g} seconds")
