"""Schedules as keyboards, editors, other programs and hurried people write them.

Each is parsed, refused with its line, or noted.
"""
from __future__ import annotations

import ast
import json
import math

import pytest

from animatediff import loras, travel
from animatediff.errors import SettingsError

FRAMES = 16


def keys(prompt: str, frames: int = FRAMES) -> dict[int, str]:
    """Return the text of each frame that has a single text, other than the frame before."""
    found = travel.schedule(prompt, frames)
    alone = {frame: found.texts[mix.first] for frame, mix in enumerate(found.mixes) if not mix.share}
    return {frame: text for frame, text in alone.items() if alone.get(frame - 1) != text}


@pytest.mark.parametrize("prompt", [
    "0：a\n8：b", "０: a\n８: b", "٠: a\n٨: b", "०: a\n८: b", "0︓a\n8﹕b", "0∶a\n8∶b", "\ufeff0: a\n8: b",
    "0\u00a0: a\n\u30008\u3000: b", "\u200b0: a\n8\u200b: b", "\t0\t:\ta\n8: b", "0: a\r\n8: b", "0: a\u20288: b",
    '"0": a\n"8": b', "“0”: a\n“8”: b", r"0: a\n8: b", r"0: a\n 8: b",
    '"0": "a", "8": "b"', "“0”: “a”,\n“8”: “b”", "„0“: „a“, „8“: „b“", "«0»: «a», «8»: «b»", "'0':'a','8':'b'",
    "‘0’: ‘a’, ‘8’: ‘b’", "{ “0” : “a”, “8” : “b” }",
    "＂0＂：＂a＂，＂8＂：＂b＂", '"0"："a"，"8"："b"', '"0": "a" "8": "b"',
    '"0": "a"; "8": "b";', '0: "a", 8: "b"', '0: "a",\n8: "b",', "0: 'a'\n8: 'b'", '"0": "a", 8: "b"',
    '"0" : "a",\n\n"8" : "b"', '{"0": "a", "8": "b"}', '{"0": "a", "8": "b",}',
    "{'0': 'a', '8': 'b'}", '{\n  “0”: “a”,\n  “8”: “b”\n}',
    '{"prompt_map": {"0": "a", "8": "b"}}', '{"prompts": {"0": "a", "max_f/2": "b"}}', '{"0": "a", "8": "b"',
    '"0%": "a", "8": "b"', "0: a\n-8: b", "0: a\n54%: b",
])
def test_variants_of_two_key_frames(prompt):
    assert keys(prompt) == {0: "a", 8: "b"}
    assert not [note for note in travel.schedule(prompt, FRAMES).notes if "is read as words" in note]


@pytest.mark.parametrize("quotes", ["''", "‘’"])
def test_single_quotes_inside_texts_are_apostrophes(quotes):
    opens, closes = quotes
    text = f"the dogs{closes} tail, it{closes}s"
    prompt = f"{opens}0{closes}: {opens}{text}{closes}, {opens}8{closes}: {opens}b{closes}"
    assert keys(prompt) == {0: text, 8: "b"}


def test_key_frames_in_percent_and_from_the_end():
    assert keys("0%: a\n50%: b\n100%: c", 9) == {0: "a", 4: "b", 8: "c"}
    assert keys("0: a\n33.3 %: b\n-1: c", 10) == {0: "a", 3: "b", 9: "c"}
    assert keys('"0": "a", "50%": "b", "100%": "c"', 9) == {0: "a", 4: "b", 8: "c"}


def test_prompt_travel_json_file():
    file = {"name": "x", "seed": [1], "head_prompt": "best,", "prompt_map": {"0": 'a "b" \\(c\\)', "8": "d\ne"},
            "tail_prompt": "end", "n_prompt": ["bad"]}
    for text in (json.dumps(file), json.dumps(file, indent=2, ensure_ascii=False)):
        found = travel.schedule(text, FRAMES)
        assert found.texts == ('best, a "b" \\(c\\), end', "best, d\ne, end")
        assert [note for note in found.notes if "n_prompt" in note and "seed" in note]
    commented = '{ "prompt_map": { # frames\n "0": "a # b", // first\n "8": "b", }, }'
    assert keys(commented) == {0: "a # b", 8: "b"}


# FizzNodes reads its texts as JSON strings.
@pytest.mark.parametrize("text", ["saber \\(fate\\)", "a\nb\tc", "café 日本 😀", 'say "hi"', "a\\\\b", "it's"])
def test_fizz_texts_are_json(text):
    for written in (json.dumps(text), json.dumps(text, ensure_ascii=False)):
        assert travel.schedule(f'"0": {written}', 1).texts == (text,)
    assert travel.schedule('"0": "saber \\(fate\\)"', 1).texts == ("saber \\(fate\\)",), "a backslash that is no escape"


@pytest.mark.parametrize("text", ["saber \\(fate\\), (x:1.2)", 'say "hi"', "it's", "a\\b", "a, b", "日本", "a {b|c}"])
def test_converted_fizz_text_is_json_and_converts_back(text):
    written = travel.convert(f"0: {text}\n4: b", "fizz", 8)
    assert json.loads("{" + written + "}") == {"0": text, "4": "b"}
    assert travel.convert(written, "native", 8) == f"0: {text}\n4: b"


@pytest.mark.parametrize(("prompt", "to", "options"), [
    ("0: a `t` b\n4: c", "fizz", {}), ("0: a --neg b\n4: c", "fizz", {}), ("0: `t`", "fizz", {}),
    ("0 hold: a\n4 hold: b", "fizz", {"closed": True}), ("0: a\n4 linear: b\n6: c", "fizz", {"easing": "ease-in"}),
    ('"0": "a --neg b", "1": "c"', "cyclic", {"interpolation": "hold"}),
    ("0 hold: a$$b\n1 hold: c", "cyclic", {}), ("0 hold: a\n1 hold: 2::b", "cyclic", {}),
])
def test_conversion_that_would_change_a_frame_is_refused(prompt, to, options):
    with pytest.raises(SettingsError, match="cannot be expressed"):
        travel.convert(prompt, to, 2 if to == "cyclic" else 8, options=travel.Options(**options))


def test_changes_lists_other_differences():
    native = "0: a\n4: b"
    fizz = travel.convert(native, "fizz", 8)
    assert "slerp" in travel.changes(native, fizz, 8)[0]
    assert travel.changes(native, fizz, 8, travel.Options(interpolation="slerp")) == []
    assert "commas" in travel.changes('"0": "a,"', travel.convert('"0": "a,"', "native", 8), 8)[0]


@pytest.mark.parametrize(("expression", "value"), [
    ("where(t<4,1,0.2)", lambda t: 1 if t < 4 else 0.2), ("arctan(t)", math.atan),
    ("arctan2(t, 2)", lambda t: math.atan2(t, 2)),
    ("(t>2)&(t<5)", lambda t: 2 < t < 5), ("2**(t/4)", lambda t: 2 ** (t / 4)), ("t % 3", lambda t: t % 3),
    ("1 if t > 3 else 0", lambda t: t > 3), ("max(0, 1 - abs(t - 4)/4)", lambda t: max(0, 1 - abs(t - 4) / 4)),
    ("-t + +1", lambda t: -t + 1), ("t//2", lambda t: t // 2), ("~(t<4)", lambda t: t >= 4), ("arcsinh(t)", math.asinh),
])
def test_expressions(expression, value):
    found = travel.schedule(f'"0": "`{expression}`"', 8)
    shown = [float(found.texts[mix.first]) for mix in found.mixes]
    assert shown == pytest.approx([float(value(t)) for t in range(8)], abs=1e-4)


@pytest.mark.parametrize("expression", [
    "3999999**3999999", "9**9**9**9", "1/0", "sqrt(0-1)", "(0-8)**0.5", "'a'*9", "t.real", "t[0]", "[1][0]",
    "lambda: 1", "f'{t}'", "open('x')", "__import__('os')", "t(1)", "sin", "sin(x=1)", "min()", "1j", "1" * 400,
    "-" * 500 + "1", "", "a", "1;2", "t = 1", "exp(exp(exp(9)))", "(" * 300 + "1" + ")" * 300,
])
def test_invalid_expressions_are_refused(expression):
    for prompt in (f'"0": "`{expression}`"', '"0": "`pw_a`"'):
        with pytest.raises(SettingsError, match="cannot be computed"):
            travel.schedule(prompt, 8, travel.Options(weights={"pw_a": expression}))


@pytest.mark.parametrize(("prompt", "line"), [
    ('"0":"a,\n"8":"b"', 1), ('"0":"a', 1), ('"0":"a",\n"8":"b', 2), ('"0":"a",\n"8":"b,\n"9":"c"', 2),
    ('"0": a,\n"8": "b"', 1), ('"0": "a",\n"8": b"', 1), ('{"prompt_map":\n {"0": "a" "8": "b"}}', 2),
    ('{"prompt_map": {"0": "a", "0.5.1": 1}}', None), ("0: a\n-99: b", 2), ("0: a\n-16: b", 2), ("0: a\n0%: b", 2),
    ('"-1": "a"', 1), ('"0": "\\ud83d"', 1), ('"0": "\\u0000"', 1), ("a\n{@b|c", 2),
])
def test_unreadable_prompts_are_refused_with_their_line(prompt, line):
    with pytest.raises(SettingsError) as caught:
        travel.schedule(prompt, FRAMES)
    assert line is None or f"line {line}" in caught.value.where


@pytest.mark.parametrize(("prompt", "lines"), [
    ("8 blue", [1]), ("(0: a), (8: b)", [1]), ("1e1: a", [1]),
    ("0: a\n8 blue", [2]), ("0 red\n8 blue", [1, 2]), ("0 = a\n8 = b", [1, 2]), ("0; a\n8; b", [1, 2]),
    ("frame 0: a", [1]), ("Frame 0: a\nFrame 8: b", [1, 2]), ("[0]: a\n[8]: b", [1, 2]), ("(0): a\n(8): b", [1, 2]),
    ("0. a\n8. b", [1, 2]), ("0) a\n8) b", [1, 2]), ("- 0: a\n- 8: b", [1, 2]), ("#0: a\n#8: b", [1, 2]),
    ("0:00 a\n0:08 b", [1, 2]), ("0s: a\n1s: b", [1, 2]), ("1.5: a\n2.5: b", [1, 2]), ("0-8: a\n8-16: b", [1, 2]),
    ("0 -> a\n8 -> b", [1, 2]), ("t=0: a\nt=8: b", [1, 2]), ('"0" "a", "8" "b"', [1]), ('"0" = "a"', [1]),
    ('[{"frame": 0, "prompt": "a"}]', [1]), ('"0": "a", 8: b', [1]), ("0: a, 8: b", [1]), ("0: a | 8: b", [1]),
    ("0: a; 8: b", [1]), ("0 eas-in: a\n8 eas-out: b", [1, 2]), ("0: a\n8: b\nframe 12: c", [3]),
    ("a\nNegative prompt: b", [2]), ("0: a\n8: b\nNegative prompt: c\nSteps: 20, Sampler: Euler a, Seed: 1", [3, 4]),
    ("<lora:zoom-in:1 a", [1]), ("a\n<lora zoom-in:1>", [2]), ("(lora:zoom-in:1)", [1]), ("lora:zoom-in:1", [1]),
    ("{ @a|b}", [1]), ("｛@a｜b｝", [1]),
])
def test_text_that_looks_like_syntax_is_noted(prompt, lines):
    notes = travel.schedule(prompt, FRAMES).notes
    assert [f"line {line}:" in note for line, note in zip(lines, notes, strict=True)] == [True] * len(lines), notes


@pytest.mark.parametrize("prompt", [
    "a red circle", "1 girl, red hair", "2 cats and 3 dogs", "16:9, cinematic", "3 cats: a story", "35 mm photo\nbokeh",
    "a (red:1.2) circle, [a:b:0.5]", "1girl\n2girls", "at 12:30, clock: 5", "<lora:zoom-in:1>", "<hypernet:x:1> a",
    "{a|b}", "1 girl, best\n0: a\n8: b\nwhite background", "0: a\n8: 2 cats, 16:9", "a > b", "8k, best",
    "steps in the snow",
])
def test_plain_words_have_no_note(prompt):
    assert travel.schedule(prompt, FRAMES).notes == ()


@pytest.mark.parametrize("tag", [
    "<lora:zoom-in:0.8>", "<LORA:zoom-in:0.8>", "<Lora:zoom-in:0.8>", "＜lora:zoom-in:0.8＞",
    "＜LORA：zoom-in：０．８＞", "< lora : zoom-in:0.8 >", "&lt;lora:zoom-in:0.8&gt;",
    "〈lora：zoom-in：0.8〉", "<lyco:zoom-in:0.8>",
])
def test_variants_of_lora_tags(tag):
    for prompt in (f"a {tag} circle", f"0: a {tag} circle"):
        assert loras.tags(travel.schedule(prompt, 1).texts[0]) == [("zoom-in", 0.8)]


def test_long_texts_and_clips_are_refused_before_they_fill_memory():
    for prompt, frames in (("a" * 100_001, 1), ('"0": "' + "a" * 50_000 + ' `t`"', 1000), ("{@a|b}" + "a" * 9000, 9000),
                           ("a" * 50_000 + "".join(f"\n{frame}: b" for frame in range(5000)), 16)):
        with pytest.raises(SettingsError, match="characters"):
            travel.schedule(prompt, frames)


def test_expressions_are_not_evaluated_as_python():
    """Nodes that Python can parse but the evaluator does not know are refused: attributes, subscripts, strings, …"""
    for node in ("t.x", "t['x']", "'x'", "sin(*t)", "sin(a=t)", "(t, t)", "{t}", "{t: t}", "[t for t in t]", "(t := 1)",
                 "await t", "lambda: t", "...", "None", "b'x'", "t @ t", "t << 9", "t is t", "t in t"):
        ast.parse(node, mode="eval")
        with pytest.raises(SettingsError, match="cannot be computed"):
            travel.schedule(f'"0": "`{node}`"', 2)
