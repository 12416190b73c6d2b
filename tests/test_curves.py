"""Curves against numpy's interpolation, and what is refused."""
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from animatediff.curves import Curve
from animatediff.errors import SettingsError
from animatediff.parameters import Parameter

ROW = Parameter("motion", str, "1", "Motion", "How much.", minimum=0, maximum=10, form="curve")
SHARES = st.floats(0, 10).map(lambda x: float(f"{x:g}"))


@pytest.mark.parametrize("text, count, values", [
    ("1.2", 3, [1.2, 1.2, 1.2]),
    ("1, 2", 4, [1, 2, 2, 2]),
    ("0: 1, 4: 2", 6, [1, 1.25, 1.5, 1.75, 2, 2]),
    ("2: 1, -1: 0", 5, [1, 1, 1, 0.5, 0]),
    ("0%: 0, 100%: 3", 4, [0, 1, 2, 3]),
    ("50%: 0, 0: 2", 5, [2, 1, 0, 0, 0]),
    ("0: (1.0), 2: ( 3 )", 3, [1, 2, 3]),
    ("0: 1, 2: 5, 2: 3", 3, [1, 2, 3]),
    ("0: 1, 100: 2", 1, [1]),
])
def test_values(text, count, values):
    assert Curve.read(text).values(count) == pytest.approx(values)


@given(st.dictionaries(st.integers(0, 40), SHARES, min_size=1), st.integers(1, 50))
def test_key_frames_are_numpys_interpolation(keys, count):
    text = ", ".join(f"{place}: {value}" for place, value in keys.items())
    places = sorted(keys)
    expected = np.interp(range(count), places, [keys[place] for place in places])
    assert Curve.read(text).values(count) == pytest.approx(expected.tolist(), abs=1e-9)
    assert Curve.read(ROW.read(text)).values(count) == pytest.approx(expected.tolist(), abs=1e-9)


@pytest.mark.parametrize("value, canonical", [
    (1.20, "1.2"), (2, "2"), ([1, 1.5], "1, 1.5"), ("1.0 ,2", "1, 2"), ("0:1,8 : (2.50)", "0: 1, 8: 2.5"),
    ("0%:1, 100%:0", "0%: 1, 100%: 0"), ("1,", "1"),
])
def test_a_value_has_one_spelling(value, canonical):
    assert ROW.read(value) == canonical == ROW.read(canonical)


@pytest.mark.parametrize("value", ["", "fast", "1; 2", "0: 1, 8", "11", "0: 1, 4: -1", "nan", "inf", [1, "x"], [], True,
                                   {}, None, "0: (1", "1e99", "1e400%: 1"])
def test_refused(value):
    with pytest.raises(SettingsError, match="^motion: .*Use a number from 0 to 10, one for each frame"):
        ROW.read(value)
