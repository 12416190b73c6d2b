"""The loop score of clips with a known score."""
from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from animatediff.media.loop import LEAST_STEP, LoopMeter


def scored(frames):
    meter = LoopMeter()
    for frame in frames:
        meter.add(frame)
    return meter.score


def grey(levels, size=(6, 5)):
    return [np.full((*size, 3), level, np.uint8) for level in levels]


@pytest.mark.parametrize(("levels", "seam", "step"), [
    (range(0, 80, 10), 70, 10),  # a ramp: the seam is as large as all steps together
    ([0, 10, 20, 30, 20, 10], 10, 10),  # up and down
    ([200, 190, 180, 10], 190, 10), ([5, 250, 5, 250], 245, 245), ([0, 4, 10], 10, 5),
])  # fmt: skip
def test_known_scores(levels, seam, step):
    score = scored(grey(levels))
    assert (score.seam, score.step) == (seam, step) and score.value == pytest.approx(seam / step)
    assert score.to_dict()["score"] == round(seam / step, 3)


def test_a_turning_wheel_closes_when_the_turn_is_whole():
    """A pattern that moves by one pixel per frame, around the picture: 16 frames are a turn, 12 are not."""
    pattern = np.random.default_rng(0).integers(0, 256, (8, 16, 3), np.uint8)
    turn = [np.roll(pattern, k, 1) for k in range(16)]
    assert scored(turn).value == pytest.approx(1)
    waves = np.repeat((100 + 100 * np.sin(np.arange(16) / 16 * 2 * np.pi)).astype(np.uint8)[None, :, None], 3, 2)
    assert scored([np.roll(waves, k, 1) for k in range(16)]).value == pytest.approx(1)
    assert scored([np.roll(waves, k, 1) for k in range(9)]).value > 4


def test_a_still_clip_is_no_division_by_nothing():
    assert scored(grey([7] * 9)).value == 0
    one_pixel = grey([7] * 9)
    one_pixel[4][0, 0, 0] = 9  # like a rounding error
    assert scored(one_pixel).value == 0
    jump = grey([7] * 8 + [12])  # a still clip with a visible jump
    assert scored(jump).value == 5 / LEAST_STEP


def test_too_few_frames_have_no_score():
    assert [scored(grey(range(count))) for count in range(3)] == [None, None, None] and scored(grey(range(3)))


@settings(max_examples=60, deadline=None)
@given(st.integers(3, 9), st.integers(0, 2**32 - 1), st.integers(1, 8))
def test_it_is_the_formula_in_float64(count, seed, turned):
    frames = list(np.random.default_rng(seed).integers(0, 256, (count, 4, 3, 3), np.uint8))
    f = np.array(frames, float)
    expected = abs(f[-1] - f[0]).mean(), np.median([abs(a - b).mean() for a, b in itertools.pairwise(f)])
    score = scored(frames)
    assert (score.seam, score.step) == pytest.approx(expected)
    other_way = scored(frames[::-1])
    assert (score.seam, score.step) == pytest.approx((other_way.seam, other_way.step))


def test_memory_does_not_grow_with_the_clip():
    def peak(count):
        meter, source = LoopMeter(), np.random.default_rng(0)
        tracemalloc.start()
        try:
            for _ in range(count):
                meter.add(source.integers(0, 256, (64, 64, 3), np.uint8))
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(400) < peak(20) + 400 * 64, "a number for each frame, where a frame has 12,288 bytes"
