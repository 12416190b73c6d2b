"""Frame rates and delays, against exact arithmetic."""
from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from animatediff.errors import MediaError
from animatediff.media import timing

RATES = st.one_of(st.integers(1, 50), st.floats(0.25, 50), st.sampled_from([23.976, 29.97, 12.5, 1 / 3]))


@pytest.mark.parametrize("fps, exact", [
    (23.976, Fraction(24000, 1001)), (29.97, Fraction(30000, 1001)), (59.94, Fraction(60000, 1001)),
    (119.88, Fraction(120000, 1001)), (8, Fraction(8)), (7.5, Fraction(15, 2)), (24.0, Fraction(24)),
    (0.5, Fraction(1, 2)), (1 / 3, Fraction(1, 3)), (12.34, Fraction(617, 50)), (Fraction(24000, 1001),) * 2])
def test_rate_is_the_fraction_that_is_meant(fps, exact):
    assert timing.rate(fps) == exact


@pytest.mark.parametrize("fps", [0, -8, float("nan"), float("inf"), 1e9, 1e-9, None, "eight"])
def test_impossible_rates_are_refused(fps):
    with pytest.raises(MediaError, match="frames per second"):
        timing.rate(fps)


@given(RATES, st.integers(1, 400))
def test_total_duration_is_right_to_half_a_tick(fps, count):
    fps = timing.rate(fps)
    for per_second, delays in ((100, [timing.gif_delay(i, fps) for i in range(count)]),
                               (1000, [timing.ticks(i, fps, 1000) for i in range(count)])):
        assert abs(sum(delays) - Fraction(count * per_second) / fps) <= Fraction(1, 2)
        assert max(delays) - min(delays) <= 1


@given(st.floats(50.01, 1000))
def test_gif_delays_never_fall_below_what_viewers_show(fps):
    assert {timing.gif_delay(i, timing.rate(fps)) for i in range(50)} == {2}


@given(st.floats(0.01, 1000))
def test_apng_delay_fits_16_bits(fps):
    exact = timing.rate(fps)
    numerator, denominator = timing.apng_delay(exact)
    assert 0 < numerator < 65536 and 0 < denominator < 65536
    assert abs(float(Fraction(numerator, denominator) * exact) - 1) < 1e-4


@pytest.mark.parametrize("seconds, text", [
    (1 / 24, "0.0417 s"), (0.001, "0.001 s"), (2, "2 s"), (2.5, "2.5 s"), (59.9, "59.9 s"), (59.96, "1 min"),
    (60, "1 min"), (90.4, "1 min 30 s"), (1250, "20 min 50 s"), (3599.7, "1 h"), (3600, "1 h"), (12_500, "3 h 28 min"),
    (10_000_000, "2,777 h 47 min")])
def test_durations_read_like_durations(seconds, text):
    assert timing.duration(seconds) == text
