"""The temporal error, against cases with a known result."""
from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("cv2")
from animatediff.media.measure.temporal import TemporalMeter


def scene(side=200, seed=0):
    """Return a smooth random picture, larger than the frames."""
    small = np.random.default_rng(seed).integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC))


def moving(step, count=6, side=96):
    whole = scene()
    return [whole[20 + i : 20 + i + side, 20 + step * i : 20 + step * i + side] for i in range(count)]


def measured(frames, references=None):
    meter = TemporalMeter()
    for frame, reference in zip(frames, references or [None] * len(frames)):
        meter.add(frame, reference)
    return meter.error


@pytest.mark.parametrize("step", [0, 1, 3, 6])
def test_a_picture_that_moves_has_hardly_any(step):
    error, frames = measured(moving(step)), moving(step)
    plain = np.mean([np.abs(a.astype(float) - b).mean() for a, b in pairwise(frames)])
    assert error.difference < 0.7 < plain and error.psnr > 45 and error.compared > 0.85


@pytest.mark.parametrize("sigma", [2, 10])
@pytest.mark.parametrize("step", [0, 3])
def test_noise_on_each_frame_has_its_own(sigma, step):
    """The difference of two normal deviates has the mean absolute value 2σ/√π.

    The flow is that of the clip without noise. A flow of fractional pixels averages a little of the noise away.
    """
    rng, clean = np.random.default_rng(1), [np.clip(frame, 60, 195) for frame in moving(step)]
    noisy = [np.rint(frame + rng.normal(0, sigma, frame.shape)).clip(0, 255).astype(np.uint8) for frame in clean]
    error = measured(noisy, clean)
    expected = 2 * sigma / math.sqrt(math.pi)
    assert (0.98 if step == 0 else 0.8) * expected < error.difference < 1.04 * expected
    assert step or abs(error.psnr - 10 * math.log10(255**2 / (2 * sigma**2 + 1 / 6))) < 0.2


def test_in_the_flow_of_a_smaller_clip():
    small = moving(3)
    large = [np.asarray(Image.fromarray(frame).resize((288, 192), Image.Resampling.LANCZOS)) for frame in small]
    noise = np.random.default_rng(1)
    noisy = [(frame * 0.8 + noise.integers(0, 50, frame.shape)).astype(np.uint8) for frame in large]
    assert measured(large, small).difference < 1.2 and measured(noisy, small).difference > 8


def test_what_is_hidden_is_left_out():
    """A square passes over the background. The pixels that it covers and uncovers are not compared."""
    ground, square = scene()[:120, :120], 255 - scene(seed=3)[:40, :40]

    def frame(i):
        whole = ground.copy()
        whole[40:80, 20 + 4 * i : 60 + 4 * i] = square
        return whole

    frames = [frame(i) for i in range(6)]
    error = measured(frames)
    wrong = np.mean([np.abs(a.astype(float) - b).mean() for a, b in pairwise(frames)])
    assert 0.85 < error.compared < 0.995 and error.difference < wrong / 3


def test_cuts_are_left_out():
    one, other = [scene()[:96, :96]] * 3, [255 - scene(seed=5)[:96, :96]] * 3
    assert measured(one + other).difference == 0


def test_too_few_frames_have_none():
    assert measured([]) is None and measured([scene()]) is None
