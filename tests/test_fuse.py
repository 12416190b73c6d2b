"""Fusing: the weights against hand-made tables, and what any weighting must leave as it is."""
from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from animatediff import fuse, windows
from animatediff.errors import SettingsError

METHODS = ("flat", "pyramid", "overlap-linear", "relative")
FIRST, MIDDLE, LAST = tuple(range(8)), tuple(range(4, 12)), tuple(range(12, 20))
THIRD = 1 / 3


@st.composite
def plans(draw) -> tuple[int, int, list[tuple[int, ...]]]:
    """(frames, overlap, windows) of any schedule at any step."""
    context = draw(st.integers(1, 17))
    frames = draw(st.integers(1, 70))
    overlap = draw(st.integers(-1, context - 1))
    return frames, overlap, windows.plan(
        frames, context, overlap=overlap, stride=draw(st.integers(1, 4)),
        closed_loop=draw(st.sampled_from(windows.CLOSED_LOOPS)), step=draw(st.integers(0, 30)),
        schedule=draw(st.sampled_from(("uniform", "uniform standard", "static standard", "batched"))))


def fused(plan, method, frames, overlap, values) -> list[float]:
    """Σ w·x / Σ w in exact arithmetic; values[k][i] is what window k says of its frame i."""
    above, below = [Fraction(0)] * frames, [Fraction(0)] * frames
    for window, row in zip(plan, values):
        for frame, weight, value in zip(window, fuse.weights(window, method, frames=frames, overlap=overlap), row):
            above[frame] += Fraction(weight) * Fraction(value)
            below[frame] += Fraction(weight)
    return [float(a / b) for a, b in zip(above, below)]


def test_the_registry_holds_the_known_methods():
    assert tuple(fuse.METHODS) == METHODS


@pytest.mark.parametrize("method, window, frames, overlap, expected", [
    ("flat", MIDDLE, 20, 4, [1] * 8),
    ("pyramid", MIDDLE, 20, 4, [1, 2, 3, 4, 4, 3, 2, 1]),
    ("pyramid", (0, 1, 2, 3, 4), 9, 2, [1, 2, 3, 2, 1]),
    ("pyramid", (0, 1), 9, 1, [1, 1]),
    ("pyramid", (4,), 9, 0, [1]),
    ("overlap-linear", FIRST, 20, 4, [1, 1, 1, 1, 1, 2 * THIRD, THIRD, 0]),
    ("overlap-linear", MIDDLE, 20, 4, [0, THIRD, 2 * THIRD, 1, 1, 2 * THIRD, THIRD, 0]),
    ("overlap-linear", LAST, 20, 4, [0, THIRD, 2 * THIRD, 1, 1, 1, 1, 1]),
    ("overlap-linear", MIDDLE, 20, -1, [0, 1, 1, 1, 1, 1, 1, 0]),
    ("overlap-linear", MIDDLE, 20, 0, [1] * 8),
    ("overlap-linear", (0, 1, 2, 3), 4, 2, [1] * 4),
    ("overlap-linear", (1, 2, 3, 4), 9, 3, [0, 0.5, 0.5, 0]),
    ("overlap-linear", (18, 19, 0, 1), 20, 2, [0, 1, 1, 0]),
    ("relative", (3, 4, 5, 6, 7), 20, 1, [0.01, 1 - 1 / 2.005, 1, 1 - 1 / 2.005, 0.01]),
    ("relative", (3, 4), 20, 1, [0.01, 0.01]),
    ("relative", (3,), 20, 0, [1]),
])
def test_weights(method, window, frames, overlap, expected):
    got = fuse.weights(window, method, frames=frames, overlap=overlap)
    assert got == pytest.approx(expected, abs=2e-3)  # the ramp starts at "about 0", which is LEAST


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=100, deadline=None)
@given(case=plans())
def test_weights_are_positive_also_in_half_precision(method, case):
    frames, overlap, plan = case
    for window in plan:
        row = fuse.weights(window, method, frames=frames, overlap=overlap)
        assert len(row) == len(window) and all(type(weight) is float for weight in row)
        assert min(row) > 0 and np.isfinite(row).all()
        assert min(np.float16(weight / max(row)) for weight in row) > np.finfo(np.float16).tiny


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=100, deadline=None)
@given(case=plans(), value=st.floats(-1e3, 1e3))
def test_a_constant_stays_what_it_is(method, case, value):
    frames, overlap, plan = case
    assert fused(plan, method, frames, overlap, [[value] * len(w) for w in plan]) == [value] * frames


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=60, deadline=None)
@given(case=plans(), data=st.data())
def test_windows_that_agree_give_what_they_agree_on(method, case, data):
    frames, overlap, plan = case
    clip = data.draw(st.lists(st.floats(-1e3, 1e3), min_size=frames, max_size=frames))
    assert fused(plan, method, frames, overlap, [[clip[frame] for frame in w] for w in plan]) == clip


@settings(max_examples=60, deadline=None)
@given(chunks=st.integers(1, 5), context=st.integers(1, 17), data=st.data())
def test_flat_over_batched_is_the_identity(chunks, context, data):
    frames = chunks * context
    plan = windows.plan(frames, context, schedule="batched")
    assert sorted(frame for window in plan for frame in window) == list(range(frames))  # each frame in one window
    values = [data.draw(st.lists(st.floats(-1e3, 1e3), min_size=context, max_size=context)) for _ in plan]
    assert fuse.shares(plan, "flat", frames=frames, overlap=0) == [[1.0] * context] * chunks
    assert fused(plan, "flat", frames, 0, values) == [value for row in values for value in row]


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=100, deadline=None)
@given(case=plans())
def test_shares_of_a_frame_sum_to_one_and_keep_the_weights_ratio(method, case):
    frames, overlap, plan = case
    shares = fuse.shares(plan, method, frames=frames, overlap=overlap)
    sums = np.zeros(frames)
    for window, row in zip(plan, shares):
        np.add.at(sums, list(window), row)
    np.testing.assert_allclose(sums, 1, atol=1e-12)
    picture = [[float(k)] * len(w) for k, w in enumerate(plan)]
    by_shares = np.zeros(frames)
    for window, row, values in zip(plan, shares, picture):
        np.add.at(by_shares, list(window), np.multiply(row, values))
    np.testing.assert_allclose(by_shares, fused(plan, method, frames, overlap, picture), atol=1e-9)


def test_a_seam_is_blended_instead_of_being_cut():
    """Two windows that disagree by 1: the step between neighbouring frames is the ramp's, not 1."""
    plan = windows.plan(28, 16, overlap=4, schedule="static standard")
    values = [[0.0] * 16, [1.0] * 16]
    steps = {m: float(np.abs(np.diff(fused(plan, m, 28, 4, values))).max()) for m in METHODS}
    assert steps["flat"] == 0.5
    assert steps["pyramid"] < 0.35 and steps["overlap-linear"] < 0.35 and steps["relative"] < 0.35


def test_an_unknown_method_is_refused_by_name():
    with pytest.raises(SettingsError, match="fuse_method: 'mean' is unknown.*overlap-linear"):
        fuse.weights((0, 1), "mean", frames=2, overlap=0)
