"""`animatediff schedule`, and clips with prompt travel, as a user meets them."""
from __future__ import annotations

import json

import pytest
from command_line import QUICK, files, run  # noqa: F401

NATIVE = "best\n0: a red circle\n4: a blue circle"


def test_the_table(run):
    code, out, err = run("schedule", NATIVE, "--frames", "6", "--negative", "0: dull\n3: grey",
                         "--travel-interpolation", "hold")
    assert code == 0 and err == ""
    assert out.splitlines() == [
        "frames  share  prompt", "   0-3   100%  best, a red circle", "   4-5   100%  best, a blue circle", "",
        "Negative prompt", "frames  share  prompt", "   0-2   100%  dull", "   3-5   100%  grey"]


def test_for_machines(run):
    code, out, _ = run("schedule", NATIVE, "--frames", "3", "--json")
    found = json.loads(out)
    assert code == 0 and found["frames"] == 3 and found["prompt"]["travels"] and not found["negative"]["travels"]
    assert found["prompt"]["rows"][1] == {"first": 1, "last": 1, "prompts": [
        {"text": "best, a red circle", "weight": 0.75}, {"text": "best, a blue circle", "weight": 0.25}]}
    assert "never reached" in found["notes"][0]


def test_another_syntax(run):
    code, out, _ = run("schedule", NATIVE, "--to", "fizz")
    assert code == 0 and out == '"0": "best, a red circle",\n"4": "best, a blue circle"\n'
    assert run("schedule", out, "--to", "native")[1] == "0: best, a red circle\n4: best, a blue circle\n"


@pytest.mark.parametrize(("words", "said"), [
    (["0: a\nb\n3: c"], "prompt, line 2, column 1"),
    (["a", "--negative", "0: a\n0: b"], "negative prompt, line 2, column 1"),
    (["a", "--travel-hold", "2"], "--travel-hold"), (["a", "--travel-easing", "jump"], "--travel-easing"),
    (["a", "--prompt-weights", "pw_z = 1"], "--prompt-weights"), ([NATIVE, "--to", "cyclic"], "between two prompts"),
])  # fmt: skip
def test_bad_input(run, words, said):
    code, out, err = run("schedule", *words)
    assert code == 2 and out == "" and said in err and err.count("\n") == 1


def test_a_clip_with_a_travelling_prompt_repeats(run, tmp_path):
    asked = ["0: a red cat\n2: a blue cat", *QUICK, "--out", "a.gif", "--travel-easing", "ease-in"]
    code, out, err = run("render", *asked)
    assert code == 0, err
    assert run("render", "--from", "a.gif", "--out", "b.gif", "--device", "cpu")[0] == 0
    assert (tmp_path / "a.gif").read_bytes() == (tmp_path / "b.gif").read_bytes()
    assert "travel_easing" in run("info", "a.gif")[1]


def test_a_prompt_that_cannot_be_read_is_refused_before_models_are_loaded(run, monkeypatch):
    from animatediff.engine.pipeline import Pipeline

    monkeypatch.setattr(Pipeline, "load", lambda *a, **k: pytest.fail("loaded"))
    code, _, err = run("render", "0: a\nb\n3: c", *QUICK, "--out", "a.gif")
    assert code == 2 and "line 2" in err
