"""Flicker and colour drift, against closed forms: known sines, colours and shifts. OpenCV computes Lab."""
from __future__ import annotations

from fractions import Fraction

import cv2
import numpy as np
import pytest

from animatediff.media.measure import lab
from animatediff.media.measure.flicker import slow_part
from animatediff.media.measure.score import ScoreMeter

FPS = 8


def picture(height=96, width=96, seed=0, low=70.0, high=180.0):
    """Return a smooth pattern in the range `low` to `high`."""
    rng = np.random.default_rng(seed)
    found = cv2.GaussianBlur(rng.standard_normal((height, width, 3)), (0, 0), 3)
    found = (found - found.min()) / np.ptp(found)
    return low + (high - low) * found


def whole(values):
    return np.rint(values).clip(0, 255).astype(np.uint8)


def score(frames, fps=FPS):
    meter = ScoreMeter()
    for frame in frames:
        meter.add(frame, Fraction(1, fps))
    return meter.score


def of_lab(colours):
    """Return uint8 sRGB of L*a*b* [... 3], by OpenCV."""
    colours = np.asarray(colours, np.float32)
    return whole(cv2.cvtColor(colours.reshape(1, -1, 3), cv2.COLOR_LAB2RGB) * 255).reshape(colours.shape)


def cie_lab(code):
    """Return L*a*b* of one sRGB colour in float64, by the formulas of IEC 61966-2-1 and CIE 15."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in np.asarray(code) / 255.0]
    xyz = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750],
                    [0.0193339, 0.1191920, 0.9503041]]) @ linear / [0.95047, 1, 1.08883]
    x, y, z = (t ** (1 / 3) if t > 216 / 24389 else (24389 / 27 * t + 16) / 116 for t in xyz)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def test_lab_is_that_of_the_standard_and_every_colour_comes_back():
    rng = np.random.default_rng(0)
    pixels = np.concatenate([rng.integers(0, 256, (2000, 3)), np.eye(3) * 255, np.full((1, 3), 255), np.zeros((1, 3)),
                             np.repeat(np.arange(256)[:, None], 3, 1)]).astype(np.uint8)
    found = lab.of_srgb(pixels)
    assert np.abs(found - [cie_lab(pixel) for pixel in pixels]).max() < 0.01
    assert np.abs(found - cv2.cvtColor(pixels[None].astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[0]).max() < 0.6
    assert np.array_equal(lab.to_srgb(found), pixels)


@pytest.mark.parametrize(("amplitude", "period"), [(3, 2.7), (12, 2), (12, 4)])
def test_the_amplitude_of_a_sine(amplitude, period):
    base = picture()
    found = score([whole(base + amplitude * np.sin(2 * np.pi * (i + 0.25) / period)) for i in range(16)])
    size = amplitude * (1 if period > 2 else np.sqrt(2) * np.sin(np.pi / 4))  # period 2: √2 times the deviation
    assert found.flicker.brightness == pytest.approx(size, rel=0.1)
    assert found.flicker.colour < 0.3


def test_parts_that_flicker_against_each_other():
    base, sign = picture(), np.ones((96, 1, 1))
    sign[48:] = -1
    found = score([whole(base + 10 * sign * np.sin(np.pi * i / 2)) for i in range(16)])
    assert found.flicker.brightness == pytest.approx(10, rel=0.1) and found.drift.end < 0.3


def test_the_amplitude_in_colour():
    """a* and b* alternate by 6 units along a line, L* stays."""
    colours = [[60, 10 + 6 * 0.6 * s, 5 + 6 * 0.8 * s] for s in np.sin(np.pi * np.arange(24) / 2)]
    found = score([np.broadcast_to(of_lab(colour), (32, 32, 3)) for colour in colours])
    assert found.flicker.colour == pytest.approx(6, rel=0.08) and found.flicker.brightness < 1.2


@pytest.mark.parametrize("speed", [1, 4])
def test_motion_is_neither_flicker_nor_drift(speed):
    base = whole(picture(120, 240))
    found = score([base[10:106, 10 + i * speed:106 + i * speed] for i in range(12)])
    assert found.flicker.brightness < 0.1 and found.flicker.colour < 0.1 and found.drift.largest < 0.2
    assert found.temporal_error.difference < 0.2
    assert found.colours.largest > 0.3, "the mean colour changes as other things come into view"


def test_a_fade_is_drift_and_no_flicker():
    base = picture()
    found = score([whole(base + 4 * i) for i in range(12)])
    assert found.flicker.brightness < 0.1 and found.loop.value > 10
    wanted = cv2.cvtColor(np.stack([whole(base), whole(base + 44)]).reshape(-1, 96, 3).astype(np.float32) / 255,
                          cv2.COLOR_RGB2LAB).reshape(2, -1, 3).mean(1)
    assert found.drift.end == pytest.approx(np.linalg.norm(wanted[1] - wanted[0]), rel=0.02)


def test_a_colour_that_drifts_by_a_known_distance():
    """24 frames in 3 seconds, along a line in L*a*b* at 4 units per second."""
    way = np.array([2, 1, 2]) / 3
    frames = [np.broadcast_to(of_lab([50, -5, 0] + way * 4 * i / FPS), (32, 32, 3)) for i in range(24)]
    found = score(frames)
    for drift in (found.drift, found.colours):
        assert drift.per_second == pytest.approx(4, abs=0.1)
        assert drift.end == drift.largest == pytest.approx(4 * 23 / FPS, abs=0.5)
    assert found.distribution == pytest.approx(4 * 23 / FPS, abs=0.5)


def test_contrast_changes_the_distribution_and_not_the_mean():
    base = picture(seed=2) - 125
    found = score([whole(125 + base * (1 + 0.02 * i)) for i in range(12)])
    assert 4 * found.colours.end < found.distribution > 2


def test_a_cut_is_neither():
    one, other = whole(picture(seed=1, low=10, high=90)), whole(picture(seed=3, low=150, high=250))
    found = score([one] * 8 + [other] * 8)
    assert found.flicker.brightness < 0.1 and found.drift.end < 0.1 < found.colours.end


def test_large_frames_are_measured_smaller():
    base = picture(24, 1100)  # so thin that OpenCV's search would crash
    found = score([whole(base + 8 * np.sin(np.pi * i / 2)) for i in range(16)])
    assert found.flicker.brightness == pytest.approx(8, rel=0.12)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_frames(count):
    found = score([whole(picture())] * count)
    assert (found.flicker is None) == (count < 3) and (found.drift is None) == (found.colours is None) == (count < 2)
    assert found.to_dict()["frames"] == count and isinstance(found.lines(), list) and str(found) is not None


def test_the_slow_part_is_the_line_that_fits_best():
    """Against numpy's weighted least squares, for every frame."""
    rng = np.random.default_rng(0)
    values, width, places = rng.standard_normal((20, 3)), 2.5, np.arange(20)
    found = slow_part(values, width)
    for i in places:
        weight = np.where(abs(places - i) <= 10, np.exp(-0.5 * ((places - i) / width) ** 2), 0)
        wanted = [np.polyval(np.polyfit(places, column, 1, w=np.sqrt(weight)), i) for column in values.T]
        assert np.allclose(found[i], wanted, atol=1e-6)


def test_without_opencv_the_rest_is_measured(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "cv2", None)
    found = score([whole(picture())] * 4)
    assert found.flicker is None and found.temporal_error is None and found.drift is None and found.colours.end == 0
    assert "opencv" in found.notes[0]
