"""Prompt travel: the prompts of each frame in each syntax."""
from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from animatediff import travel
from animatediff.errors import SettingsError


def shares(prompt: str, frames: int, **how) -> list[dict[str, float]]:
    found = travel.schedule(prompt, frames, travel.Options(**how))
    return [{text: pytest.approx(share) for text, share in found.shares(frame)} for frame in range(frames)]


def cuts(prompt: str, frames: int, **how) -> list[str]:
    """Return the text of each frame, none of which may be mixed."""
    found = travel.schedule(prompt, frames, travel.Options(**how))
    assert not any(mix.share for mix in found.mixes)
    return [found.texts[mix.first] for mix in found.mixes]


@pytest.mark.parametrize("prompt", [
    "a red circle", "a (red:1.2) circle, AND [a:b:0.5]", "", "16:9, cinematic", "aspect 1:1", "16:9 wide\nsecond line",
    "3 cats: a story", 'she said "0": nothing', "{a|b}", "a:b\nc: d",
])
def test_plain_prompt_is_unchanged_in_every_frame(prompt):
    found = travel.schedule(prompt, 5)
    assert found.texts == (prompt,) and not found.travels and found.notes == ()
    assert travel.syntax_of(prompt) == "plain"


def test_native_head_key_frames_and_tail():
    prompt = "masterpiece, \nbest\n0: red\n4: blue\nwhite background,\nsharp"
    assert shares(prompt, 6) == [
        {"masterpiece, best, red, white background, sharp": 1},
        *({"masterpiece, best, red, white background, sharp": 1 - i / 4,
           "masterpiece, best, blue, white background, sharp": i / 4} for i in (1, 2, 3)),
        {"masterpiece, best, blue, white background, sharp": 1},
        {"masterpiece, best, blue, white background, sharp": 1},
    ]


@pytest.mark.parametrize("prompt", ["0: a\n2: b", "0:a\n2:b", " 0 : a\n\n 2 :b", "2: b\n0: a", "0: a,\n2: b,"])
def test_ways_to_write_key_frames(prompt):
    assert shares(prompt, 3) == [{"a": 1}, {"a": 0.5, "b": 0.5}, {"b": 1}]


def test_lora_tags_are_joined_without_commas():
    assert cuts("<lora:a:1>\n0: red <lora:b:1>,\n1: blue\n<lora:c:1> <lora:d:1>", 2) == [
        "<lora:a:1> red <lora:b:1> <lora:c:1> <lora:d:1>", "<lora:a:1> blue <lora:c:1> <lora:d:1>"]


def test_text_that_begins_with_a_digit_is_no_ratio():
    assert cuts("0:1girl", 2) == ["1girl"] * 2
    assert travel.syntax_of("0:2 girls") == "plain"  # as 16:9 is; a blank after the colon makes it a key frame
    assert cuts("0: 2 girls", 1) == ["2 girls"]


def test_frames_before_the_first_key_frame_have_its_prompt():
    assert cuts("3: a", 5) == ["a"] * 5
    assert shares("2: a\n4: b", 5)[:3] == [{"a": 1}] * 3


def test_key_frame_after_the_clips_end_is_approached_and_noted():
    found = travel.schedule("0: a\n8: b\n20: c", 4)
    assert found.shares(2) == [("a", 0.75), ("b", 0.25)]
    assert [note.split(";")[1].strip() for note in found.notes] == [
        "its prompt is approached and never reached", "its prompt is never used"]
    assert "line 2: key frame 8 is after the last frame, 3" in found.notes[0]


def test_closed_interpolates_from_the_last_key_frame_to_the_first():
    assert shares("0: a\n4: b", 8, closed=True) == [
        {"a": 1}, {"a": 0.75, "b": 0.25}, {"a": 0.5, "b": 0.5}, {"a": 0.25, "b": 0.75},
        {"b": 1}, {"b": 0.75, "a": 0.25}, {"a": 0.5, "b": 0.5}, {"b": 0.25, "a": 0.75}]
    assert shares("2: a\n4: b", 8, closed=True)[:2] == [{"b": pytest.approx(1 / 3), "a": pytest.approx(2 / 3)},
                                                       {"b": pytest.approx(1 / 6), "a": pytest.approx(5 / 6)}]


def test_hold():
    assert cuts("0: a\n3: b", 5, interpolation="hold") == ["a", "a", "a", "b", "b"]
    assert shares("0: a\n8: b", 9, hold=0.5)[4:] == [
        {"a": 1}, {"a": 0.75, "b": 0.25}, {"a": 0.5, "b": 0.5}, {"b": 0.75, "a": 0.25}, {"b": 1}]


@pytest.mark.parametrize(("easing", "half", "quarter"), [
    ("linear", 0.5, 0.25), ("ease-in", 0.25, 0.0625), ("ease-out", 0.75, 0.4375), ("ease-in-out", 0.5, 0.15625)])
def test_easing(easing, half, quarter):
    for prompt, more in ((f"0 {easing}: a\n4: b", {}), ("0: a\n4: b", {"easing": easing})):
        found = shares(prompt, 5, **more)
        assert found[1] == {"a": 1 - quarter, "b": quarter}
        assert found[2] == {"a": 1 - half, "b": half}


def test_key_frames_easing_overrides_the_clips():
    assert shares("0 linear: a\n4: b\n8: c", 9, easing="hold")[2] == {"a": 0.5, "b": 0.5}
    assert cuts("0 HOLD: a\n4: b", 5) == ["a"] * 4 + ["b"]


@pytest.mark.parametrize(("prompt", "place", "what"), [
    ("0: a\nmiddle\n4: b", "line 2, column 1", "'middle' is between"),
    ("0: a\n4: b\n  4: c", "line 3, column 3", "already, in line 2"),
    ("0: a\n4 eas-in: b", "line 2, column 3", "not an easing"),
    ('"0": "a" oops "4": "b"', "line 1, column 10", "'oops' is between"),
    ('"0": "a",\n"0": "b"', "line 2, column 1", "already, in line 1"),
    ('"-3": "a"', "line 1, column 1", "-3"),
    ('"max_f/0": "a"', "line 1, column 1", "cannot be computed"),
    ('"0": "a (b:`1+`)"', "line 1", "cannot be computed"),
    ('"0": "a (b:`__import__(\'os\')`)"', "line 1", "cannot be computed"),
    ('"0": "a `9**9**9`"', "line 1", "cannot be computed"),
    ("x, {@a|b", "line 1, column 4", "never closed"),
])
def test_errors_name_line_and_column(prompt, place, what):
    with pytest.raises(SettingsError) as caught:
        travel.schedule(prompt, 8)
    assert caught.value.where.endswith(place), caught.value.where
    assert what in caught.value.what and caught.value.remedy


def test_fizz():
    prompt = 'best,\n"0": "red,", "max_f/2":"blue,",\n"max_f-1": "green,",\nwhite background'
    found = travel.schedule(prompt, 9)
    assert found.interpolation == "linear"
    assert [dict(found.shares(i)) for i in (0, 2, 4, 6, 8)] == [
        {"best, red, white background": 1}, {"best, red, white background": 0.5, "best, blue, white background": 0.5},
        {"best, blue, white background": 1},
        {"best, blue, white background": 0.5, "best, green, white background": 0.5},
        {"best, green, white background": 1}]


def test_fizz_expressions_are_computed_for_each_frame():
    prompt = '"0": "(tent:`sin(t/max_f)`), (time:`0.5+0.5*t/max_f`), \\"quoted\\", it"'
    texts = cuts(prompt, 4)
    assert texts == ["({}:{}), (time:{}), \"quoted\", it".format(
        "tent", f"{math.sin(t / 3):.4f}".rstrip("0").rstrip("."),
        f"{0.5 + 0.5 * t / 3:.4f}".rstrip("0").rstrip(".")) for t in range(4)]
    assert cuts('"0": "(a:`10`), (b:`pw_a`)"', 2, weights={"pw_a": "t+20"}) == ["(a:10), (b:20)", "(a:10), (b:21)"]


def test_fizz_negative():
    positive, negative = travel.both('"0": "cat --neg dog", "2": "bird"', "blurry", 3)
    assert positive.texts == ("cat", "bird") and negative.texts == ("blurry, dog", "blurry")
    assert dict(negative.shares(1)) == {"blurry, dog": 0.5, "blurry": 0.5}
    positive, negative = travel.both('best --neg bad\n"0": "cat", "2": "bird --neg dog"\nend --neg last', "", 3)
    assert positive.texts == ("best cat end", "best bird end") and negative.texts == ("bad last", "bad dog last")
    with pytest.raises(SettingsError, match="--neg"):
        travel.both('"0": "cat --neg dog"', "0: a\n2: b", 3)


def test_negative_prompt_can_travel():
    positive, negative = travel.both("cat", "0: a\n2: b", 3)
    assert positive.texts == ("cat",) and dict(negative.shares(1)) == {"a": 0.5, "b": 0.5}


def test_cyclic():
    users = ("1girl, classroom, {@arms behind back|arms behind back|||crossed arms|crossed arms|||"
             "arms up, smile|arms up, smile}")
    options = users[users.index("{@") + 2:-1].split("|")
    assert cuts(users, 13) == [f"1girl, classroom, {options[i % len(options)]}" for i in range(13)]
    assert cuts("{@a|b} and {@x|y|z}", 4) == ["a and x", "b and y", "a and z", "b and x"]
    assert cuts("{a|b} {@c|d}", 2) == ["{a|b} c", "{a|b} d"]


def test_cyclic_groups_inside_key_frames():
    assert cuts("0: {@a|b} cat", 3) == ["a cat", "b cat", "a cat"]
    assert cuts('"0": "{@a|b} cat"', 2) == ["a cat", "b cat"]


WORDS = st.text("abc xyz(:1.2)", min_size=1, max_size=12).map(str.strip).filter(
    lambda text: text and not text[0].isdigit() and text == text.strip(", :"))
KEYS = st.dictionaries(st.integers(0, 40), WORDS, min_size=1, max_size=6)
HOW = st.fixed_dictionaries({"closed": st.booleans(), "hold": st.floats(0, 1),
                             "easing": st.sampled_from(list(travel.EASINGS)),
                             "interpolation": st.sampled_from(travel.INTERPOLATIONS)})


@settings(deadline=None)
@given(KEYS, st.integers(1, 32), HOW)
def test_shares_of_each_frame_sum_to_one(keys, frames, how):
    prompt = "\n".join(f"{frame}: {text}" for frame, text in keys.items())
    found = travel.schedule(prompt, frames, travel.Options(**how))
    assert len(found.mixes) == frames and set(found.texts) <= {text.strip(", ") for text in keys.values()}
    assert len(set(found.texts)) == len(found.texts)
    used = {number for mix in found.mixes for number in (mix.first, mix.second)}
    assert used == set(range(len(found.texts))), "nothing is encoded in vain"
    for frame in range(frames):
        parts = found.shares(frame)
        assert math.isclose(sum(share for _, share in parts), 1) and all(0 < share <= 1 for _, share in parts)
        if frame in keys:
            assert parts == [(keys[frame].strip(", "), 1.0)]
    assert sum(row["last"] - row["first"] + 1 for row in found.rows()) == frames


def same(a: str, b: str, frames: int) -> bool:
    one, other = (travel.schedule(text, frames, travel.Options(interpolation="slerp")) for text in (a, b))
    return all(dict(one.shares(i)) == pytest.approx(dict(other.shares(i))) for i in range(frames))


@settings(deadline=None)
@given(KEYS, st.sampled_from(["", "head"]), st.sampled_from(["", "tail"]), st.integers(1, 32))
def test_native_and_fizz_give_the_same_schedule(keys, head, tail, frames):
    native = "\n".join(filter(None, (head, *(f"{frame}: {text}" for frame, text in sorted(keys.items())), tail)))
    fizz = travel.convert(native, "fizz", frames)
    assert travel.syntax_of(fizz) == "fizz" and same(native, fizz, frames)
    assert same(native, travel.convert(fizz, "native", frames), frames)


@settings(deadline=None)
@given(st.lists(st.sampled_from(["a", "b b", "c, d"]), min_size=2, max_size=12))
def test_cyclic_to_the_others_and_back(options):
    frames, prompt = len(options), "x {@" + "|".join(options) + "} y"
    for to in ("native", "fizz"):
        other = travel.convert(prompt, to, frames)
        assert same(prompt, other, frames)
        assert same(prompt, travel.convert(other, "cyclic", frames), frames)


@pytest.mark.parametrize(("prompt", "to", "why"), [
    ("0: a\n4: b", "cyclic", "between two"), ("0 ease-in: a\n4: b", "fizz", "easing"),
    ('"0": "(a:`t`)"', "native", "expression"), ('"0": "a --neg b"', "native", "--neg"), ("a", "other", "syntax"),
])
def test_conversion_refuses_what_the_syntax_cannot_express(prompt, to, why):
    with pytest.raises(SettingsError, match=why):
        travel.convert(prompt, to, 8)


def test_the_table_shows_frames_shares_and_prompts():
    assert travel.table(travel.schedule("0: a\n2: b", 5)).splitlines() == [
        "frames  share  prompt", "     0   100%  a", "     1    50%  a", "          50%  b", "   2-4   100%  b"]


NUMBER = re.compile(r"-?\d+\.\d+")


@pytest.mark.parametrize("case", json.loads((Path(__file__).parent / "data" / "fizz.json").read_text("utf-8")),
                         ids=lambda case: case["prompt"].strip()[:30])
def test_fizz_parity_with_fizznodes(case):
    """The data is recorded from BatchFuncs (interpolate_prompt_seriesA) of ComfyUI_FizzNodes 1.0.2.

    It has {prompt: share} for each frame. FizzNodes writes numbers with all decimals, and leaves two blanks around an
    empty part.
    """
    def alike(shares: dict[str, float]) -> dict[str, float]:
        return {NUMBER.sub(lambda found: f"{float(found[0]):.3f}", " ".join(text.split())): round(share, 5)
                for text, share in shares.items()}

    both = travel.both(case["prompt"], "", case["frames"],
                       travel.Options(weights=travel.weights(case["weights"])))
    for found, expected in zip(both, (case["prompt_shares"], case["negative_shares"])):
        assert [alike(dict(found.shares(i))) for i in range(case["frames"])] == [alike(frame) for frame in expected]


def test_preview_of_a_long_clip_has_its_beginning_and_its_key_frames():
    text = "0: a\n10: b\n50000: c"
    whole = travel.schedule(text, 60_000)
    glance = travel.schedule(text, 60_000, travel.Options(most=100))
    assert glance.texts == whole.texts and glance.notes == whole.notes
    assert glance.mixes[:100] == whole.mixes[:100] and len(glance.mixes) == 101
    assert glance.mixes[100] == whole.mixes[50_000]


@pytest.mark.parametrize("text", ["{@a|b|c} d", "0: {@a|{@b|c}}\n70000: e", '"0": "a (b:`t/max_f`)", "max_f-1": "c"'])
def test_preview_evaluates_no_more_frames_than_it_shows(text):
    frames = 100_000
    glance = travel.schedule(text.replace("max_f-1", str(frames - 1)), frames, travel.Options(most=100))
    assert 100 <= len(glance.mixes) <= 102
