"""Which steps are whole, for any number of steps."""
from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from animatediff import notices, step_reuse
from animatediff.settings import SPEEDS, Settings

STEPS = st.integers(1, 300)


@given(st.sampled_from(SPEEDS), STEPS)
def test_the_first_and_the_last_steps_are_whole_and_as_many_as_stated(name, steps):
    whole = sorted(step_reuse.whole_steps(name, steps))
    assert len(whole) == min(steps, max(step_reuse.LEAST, round(step_reuse.SHARES[name] * steps)))
    assert whole[0] == 0 and whole[-1] == steps - 1
    gaps = [b - a for a, b in itertools.pairwise(whole)]
    # growing, but for rounding
    assert max(gaps, default=1) <= 7 and all(b >= a - 1 for a, b in itertools.pairwise(gaps)), gaps


@given(STEPS)
def test_presets_are_in_the_order_of_their_cost(steps):
    counts = [len(step_reuse.whole_steps(name, steps)) for name in SPEEDS]
    assert counts == sorted(counts, reverse=True) and counts[0] == steps


def test_with_20_steps():
    """f(i) = 19·(i/7)^1.6 and 19·(i/10)^1.6, rounded, each step once."""
    assert sorted(step_reuse.whole_steps("draft", 20)) == [0, 1, 3, 5, 8, 11, 15, 19]
    assert sorted(step_reuse.whole_steps("balanced", 20)) == [0, 1, 2, 3, 4, 6, 8, 11, 13, 16, 19]


def test_what_is_told():
    assert notices.of_speed(Settings(), 20) == []
    assert notices.of_speed(Settings(speed="draft"), 20) == ["speed draft: the whole UNet runs in 8 of 20 steps"]
    assert "without effect" in notices.of_speed(Settings(speed="balanced"), 7)[0]
