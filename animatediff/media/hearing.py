"""The levels of a sound at a clip's frames: loudness of bass, mid and treble, and note onsets.

Each level is 0 to 1, where 1 is the maximum in the clip. A band's level is the root mean square of the band-filtered
samples; the filters are windowed sincs. An onset is a rise of the logarithmic spectrum above its maximum in the time
just before (spectral flux; Böck and Widmer, Maximum filter vibrato suppression for onset detection, 2013).
"""
from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from itertools import chain, repeat
from typing import Any

import numpy as np

from animatediff.media.sound import Sound
from animatediff.media.timing import rate as exact
from animatediff.travel.expressions import LEVELS, Follow

CROSSOVERS = ((250.0, 150.0), (4000.0, 1500.0))  # Hz: frequency between two bands, and width of the filter's slope
BANDS = ("bass", "mid", "treble", "loudness")
SHORTEST = Fraction(1, 20)  # least seconds that a level averages, back from the frame's end
ONSET_WINDOW, ONSET_HOP = 0.010, 0.0025  # seconds: window and hop of the spectra for onsets
BEFORE, RISE = 20, 4  # number of earlier spectra that an onset is compared with, and number over which it rises
FLOOR = 0.03  # share of the maximum loudness; a band that is always softer never reaches level 1
QUIET = 1e-4  # share of full scale; softer sound counts as silence
TOGETHER = 1024  # spectra computed at once
BLOCK = 2**16  # samples filtered at once


@dataclass
class Hearing:
    """Levels of a sound at a clip's frames, computed on first use.

    A frame's level covers the time for which it is shown: the mean for a band, the maximum for onsets.
    """

    sound: Sound
    fps: Fraction
    frames: int
    _levels: dict[str, np.ndarray] = field(default_factory=dict)
    _followed: dict[Follow, list[float]] = field(default_factory=dict)

    def __call__(self, follow: Follow) -> list[float]:
        """Return one value for each frame. Raises MediaError if the sound cannot be read."""
        if follow not in self._followed:
            self._levels = self._levels or self._listen()
            values = _followed(self._levels[follow.level], 1 / float(self.fps), follow.attack, follow.decay)
            self._followed[follow] = values.tolist()
        return self._followed[follow]

    def _listen(self) -> dict[str, np.ndarray]:
        bands, onsets = _Bands(self), _Onsets(self)
        for block in self._blocks():
            bands.add(block)
            onsets.add(block)
        found, onset = bands.finish(), onsets.finish()
        loudest = found["loudness"].max(initial=0)
        if loudest < QUIET:
            return dict.fromkeys(LEVELS, np.zeros(self.frames))
        levels = {name: values / max(values.max(), FLOOR * loudest) for name, values in found.items()}
        return levels | {"onset": onset / max(onset.max(), 1e-9)}

    def _blocks(self) -> Iterator[np.ndarray]:
        """Yield the clip's samples in mono. They are silent after the sound's end."""
        left, waiting = self.border(self.frames), np.zeros(0, np.float32)
        silence = repeat(np.zeros((BLOCK, 1), np.float32))
        for block in chain(self.sound.samples(1), silence):
            waiting = np.concatenate([waiting, block[:, 0]])
            while len(waiting) >= min(BLOCK, left):
                yield waiting[:min(BLOCK, left)]
                waiting, left = waiting[min(BLOCK, left):], left - min(BLOCK, left)
                if not left:
                    return

    def border(self, frame: int) -> int:
        """Return the number of the first sample of a frame."""
        return math.ceil(frame / self.fps * self.sound.rate)

    def frames_at(self, samples: np.ndarray) -> np.ndarray:
        """Return the frames to which samples belong. Samples before or after the clip go to its first or last frame."""
        step = self.fps / self.sound.rate
        found = np.floor_divide(np.asarray(samples, np.int64) * step.numerator, step.denominator)
        return found.clip(0, self.frames - 1)


def of(sound: Sound, fps: float, frames: int) -> Hearing:
    """Return the levels of a clip's frames.

    Results are cached for the last four clips. A file that has changed is read again.
    """
    state: tuple[int, ...] = ()
    with suppress(OSError):  # raised again when the file is read
        about = sound.path.stat()
        state = about.st_mtime_ns, about.st_size
    return _of(sound, exact(fps), frames, *state)


@lru_cache(maxsize=4)
def _of(sound: Sound, fps: Fraction, frames: int, *state: Any) -> Hearing:
    return Hearing(sound, fps, frames)


class _Bands:
    """Computes the root mean square of each band in each frame."""

    def __init__(self, hearing: Hearing):
        self.hearing = hearing
        rate = hearing.sound.rate
        self.low_passes = [_low_pass(cutoff, slope, rate) for cutoff, slope in CROSSOVERS]
        self.energy = {name: np.zeros(hearing.frames) for name in BANDS}
        # The filters are symmetric, so they respond before a beat. Levels are delayed, so that none comes early.
        low, middle = (round(2 * rate / cutoff) for cutoff, _ in CROSSOVERS)
        self.ringing = {"bass": low, "mid": low, "treble": middle, "loudness": 0}
        self.late = max(map(len, self.low_passes)) // 2  # delay of all bands in samples
        self.tail = np.zeros(2 * self.late, np.float32)  # samples before the next block
        self.end = hearing.border(hearing.frames)
        self.at = -self.late  # number of the next sample to filter

    def add(self, block: np.ndarray) -> None:
        around = np.concatenate([self.tail, block])
        self.tail = around[len(around) - 2 * self.late:]
        whole = around[self.late:self.late + len(block)]
        low, middle = (_filtered(around, kernel, self.late, len(block)) for kernel in self.low_passes)
        numbers = np.arange(self.at, self.at + len(block))
        self.at += len(block)
        for name, samples in zip(BANDS, (low, middle - low, whole - middle, whole)):
            heard = numbers + self.ringing[name]
            inside = (heard >= 0) & (heard < self.end)
            frames = self.hearing.frames_at(heard[inside])
            self.energy[name] += np.bincount(frames, samples[inside].astype(np.float64)**2, self.hearing.frames)

    def finish(self) -> dict[str, np.ndarray]:
        self.add(np.zeros(self.late, np.float32))
        borders = [self.hearing.border(frame) for frame in range(self.hearing.frames + 1)]
        back = max(1, round(SHORTEST * self.hearing.fps))
        counts = _sums(np.diff(borders).astype(float), back)
        return {name: np.sqrt(_sums(energy, back) / np.maximum(counts, 1)) for name, energy in self.energy.items()}


class _Onsets:
    """Computes the maximum onset in each frame."""

    def __init__(self, hearing: Hearing):
        self.hearing, rate = hearing, hearing.sound.rate
        self.hop, self.size = max(1, round(ONSET_HOP * rate)), max(2, round(ONSET_WINDOW * rate))
        self.window = np.hanning(self.size + 1)[:-1]
        self.waiting = np.zeros(self.size, np.float32)
        self.before = np.zeros((BEFORE, self.size // 2 + 1))
        self.rises: list[np.ndarray] = []

    def add(self, block: np.ndarray) -> None:
        self.waiting = np.concatenate([self.waiting, block])
        while len(self.waiting) >= self.size:
            count = min((len(self.waiting) - self.size) // self.hop + 1, TOGETHER)
            views = np.lib.stride_tricks.sliding_window_view(self.waiting, self.size)[:count * self.hop:self.hop]
            self._take(np.log1p(1000 / self.window.sum() * np.abs(np.fft.rfft(views * self.window, axis=1))))
            self.waiting = self.waiting[count * self.hop:]

    def _take(self, spectra: np.ndarray) -> None:
        """Compute the rises of consecutive spectra [windows frequencies]."""
        known = np.concatenate([self.before, spectra])
        greatest = np.max([known[i:i + len(spectra)] for i in range(BEFORE)], axis=0)
        self.rises.append(np.maximum(spectra - greatest, 0).mean(1))
        self.before = known[-BEFORE:]

    def finish(self) -> np.ndarray:
        rises = np.concatenate(self.rises)
        whole = _sums(rises[::-1], RISE)[::-1]
        # Exclude earlier windows, whose sum includes the same rise, and later ones, which have only the rest of it.
        strengths = np.where(rises > whole / (2 * RISE), whole, 0)
        padded = np.concatenate([np.zeros(RISE - 1), strengths])
        first = strengths > np.max([padded[i:i + len(strengths)] for i in range(RISE - 1)], axis=0)
        # The time of an onset is the end of the first window that contains it.
        frames, found = self.hearing.frames_at(self.hop * np.arange(len(rises))), np.zeros(self.hearing.frames)
        np.maximum.at(found, frames, np.where(first, strengths, 0))
        return found


def _low_pass(cutoff: float, slope: float, rate: int) -> np.ndarray:
    """Return a low-pass filter: a Blackman-windowed sinc with a slope of about this width, in Hz.

    If the cutoff is at or above half the sample rate, the filter passes everything.
    """
    if cutoff >= rate / 2:
        return np.ones(1)
    half = math.ceil(2.75 * rate / slope)
    places = np.arange(-half, half + 1)
    kernel = np.sinc(2 * cutoff / rate * places) * np.blackman(2 * half + 1)
    return kernel / kernel.sum()


def _filtered(around: np.ndarray, kernel: np.ndarray, late: int, count: int) -> np.ndarray:
    """Return the convolution with a symmetric kernel, for `count` samples from index `late` on."""
    half, size = len(kernel) // 2, 2**math.ceil(math.log2(len(around) + len(kernel)))
    whole = np.fft.irfft(np.fft.rfft(around, size) * np.fft.rfft(kernel, size), size)
    return whole[late + half:late + half + count]


def _sums(values: np.ndarray, back: int) -> np.ndarray:
    """Return moving sums over each value and those before it, `back` values in all."""
    total = np.concatenate([np.zeros(back), np.cumsum(values)])
    return total[back:] - total[:-back]


def _followed(values: np.ndarray, step: float, attack: float, decay: float) -> np.ndarray:
    """Return the values after an envelope follower with these attack and decay times.

    step: seconds between two values. attack, decay: time constants in seconds, 0 for none.
    """
    if not attack and not decay:
        return values
    up, down = (1 - math.exp(-step / seconds) if seconds else 1.0 for seconds in (attack, decay))
    level, found = 0.0, []
    for value in values:
        level += (value - level) * (up if value > level else down)
        found.append(level)
    return np.array(found)
