"""Curves against numpy's interpolation, and what is refused."""
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from animatediff.curves import Curve
from animatediff.errors import SettingsError
from animatediff.parameters import Parameter
from animatediff.settings import Settings, parse
from animatediff.travel import both
from animatediff.travel.expressions import Follow

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


LEVELS = {Follow("bass"): [0.0, 0.25, 0.5, 1.0], Follow("onset", decay=0.5): [1.0, 0.5, 0.25, 0.125]}


@pytest.mark.parametrize("text, values", [
    ("audio(bass)", [0, 0.25, 0.5, 1]), ("1 - audio(bass)/2", [1, 0.875, 0.75, 0.5]), ("t / max_f", [0, 1/3, 2/3, 1]),
    ("2, audio(bass)", [2, 0.25, 0.5, 1]), ("0: 1, 2: audio(bass)", [1, 0.625, 0.5, 1]),
    ("0%: audio(onset, 0, 0.5), 100%: 0", [1, 1/3, 1/12, 0]), ("max(0.3, audio(bass))", [0.3, 0.3, 0.5, 1]),
    ("audio(onset, decay=0.5) if t else 3", [3, 0.5, 0.25, 0.125])])
def test_expressions_and_sounds(text, values):
    curve = Curve.read(ROW.read(text))
    assert curve.values(4, LEVELS.__getitem__) == pytest.approx(values)
    assert str(curve) == text and Curve.read(str(curve)) == curve and curve.constant is None
    assert curve.computed(4, LEVELS.__getitem__).values(4) == pytest.approx(values)
    assert set(curve.follows) <= LEVELS.keys() and bool(curve.follows) == ("audio" in text)


@pytest.mark.parametrize("text, why", [
    ("audio(drums)", "after audio stands one of bass, mid, treble, loudness, onset"), ("audio()", "after audio stands"),
    ("audio(bass, -1)", "after audio stands|seconds from 0"), ("audio(bass, 61)", "seconds from 0 to 60"),
    ("audio(bass, 1, 2, 3)", "after audio stands"), ("audio(bass, slow=1)", "after audio stands"),
    ("audio(bass, 1, attack=1)", "after audio stands"), ("audio(bass", "never closed|expression"),
    ("__import__('os')", "not a known name"), ("0: f(1)", "not a known name"), ("2 * x", "not a known name"),
    (", ".join(["t+1"] * 1001), "more than 1,000 expressions"), ("1+" * 600 + "1", "more than 1000 characters")])
def test_refused_expressions(text, why):
    with pytest.raises(SettingsError, match=why):
        ROW.read(text)


def test_a_sound_curve_needs_a_sound():
    settings = parse({"motion_scale": "0.5 + audio(bass)"})
    with pytest.raises(SettingsError, match=r"motion_scale: audio\(bass\) follows a sound, but there is none. "
                                            "Give a sound file with audio"):
        settings.curve("motion_scale", 4)
    with pytest.raises(SettingsError, match="motion_scale_steps: a sound has no value at a sampling step"):
        parse({"motion_scale_steps": "audio(bass)"})


def test_values_stay_within_the_range():
    settings = Settings(motion_effect="4 * audio(bass) - 1", levels=LEVELS.__getitem__)
    assert settings.curve("motion_effect", 4) == [0, 0, 1, 2]
    assert settings == Settings(motion_effect="4 * audio(bass) - 1") and "levels" not in settings.to_dict()


def test_prompt_weights_follow_a_sound():
    settings = Settings(prompt_weights="pw_a = audio(bass); pw_b = 1 - pw_a", levels=LEVELS.__getitem__)
    text = '"0": "(cat:`pw_a`) (dog:`pw_b`)", "3": "bird"'
    found, _ = both(text, "", 4, settings.travel_options(4))
    assert set(found.texts) == {"(cat:0) (dog:1)", "(cat:0.25) (dog:0.75)", "(cat:0.5) (dog:0.5)", "bird"}
    with pytest.raises(SettingsError, match="follows a sound, but there is none"):
        both(text, "", 4, Settings(prompt_weights="pw_a = audio(bass)").travel_options(4))
