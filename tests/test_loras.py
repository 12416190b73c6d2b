"""Motion LoRAs as users name them: the parameter's grammar, and tags in prompts."""
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from animatediff import loras
from animatediff.curves import Curve
from animatediff.errors import SettingsError
from animatediff.loras import Wish
from animatediff.settings import Settings
from animatediff.travel import schedule


@pytest.mark.parametrize("text, wishes", [
    ("", []), (" ; \n ", []),
    ("zoom-in", [("zoom-in", "1")]),
    ("zoom-in: 0.8; pan-left: 0: 1, 8: 0", [("zoom-in", "0.8"), ("pan-left", "0: 1, 8: 0")]),
    ("a b.ckpt : -1\n\nsub/c : 1, .5, 0 ;", [("a b.ckpt", "-1"), ("sub/c", "1, 0.5, 0")]),
    ('"C:\\x; y.safetensors": 0%: 1, 100%: (0); "plain"', [("C:\\x; y.safetensors", "0%: 1, 100%: 0"), ("plain", "1")]),
])  # fmt: skip
def test_grammar(text, wishes):
    assert loras.read(text) == tuple(Wish(name, Curve.read(weight)) for name, weight in wishes)
    assert Settings(motion_lora=text).motion_lora == text


@pytest.mark.parametrize("text, said", [
    ("zoom-in: fast", "entry 1, column 10: the weight holds 'fast', which is neither a number nor a key frame"),
    ("a; zoom-in: 0.8, pan-left: 0.5", "entry 2, column 13: the weight holds '0.8'"),
    ("a: 1\n  : 2", "entry 2, column 3: names no motion LoRA"),
    ("a\nb: 1; c: 11", "entry 3, column 10: the weight is not between -10 and 10"),
    ("a: 0: 1, 8: -10.5", "entry 1, column 4: the weight is not between"),
    ('a; "b: 1', "column 4: a quote is not closed"),
    ('a "b": 1', "entry 1, column 1: quotes must enclose a whole name"),
    ("a:", "entry 1, column 3: the weight holds ''"),
])  # fmt: skip
def test_refusals_name_entry_and_column(text, said):
    with pytest.raises(SettingsError, match="Write NAME or NAME: WEIGHT") as caught:
        Settings(motion_lora=text)
    assert caught.value.where == "motion_lora" and caught.value.what.startswith(said)


names = st.text(st.characters(blacklist_categories=("C",), blacklist_characters='"'), min_size=1, max_size=12).filter(
    lambda name: name == name.strip() and name)
numbers = st.integers(-1000, 1000).map(lambda n: n / 100)
curves = st.one_of(numbers.map(str), st.lists(numbers, min_size=1, max_size=4).map(lambda ns: ", ".join(map(str, ns))),
                   st.dictionaries(st.integers(-9, 99), numbers, min_size=1, max_size=4).map(
                       lambda keys: ", ".join(f"{place}: {value}" for place, value in keys.items())))


@given(st.lists(st.builds(lambda name, curve: Wish(name, Curve.read(curve)), names, curves), max_size=4))
def test_what_is_written_is_read_again(wishes):
    assert loras.read(loras.write(wishes)) == tuple(wishes)


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text):
    try:
        assert all(wish.name for wish in loras.read(text))
    except SettingsError as error:
        assert "column" in error.what


def test_folders_are_nobody_elses_business():
    assert loras.without_folders("zoom-in:0.8 ;x") == "zoom-in:0.8 ;x"
    assert loras.without_folders("/home/me/zoom.ckpt: 0.5; sub/b") == "zoom.ckpt: 0.5; b"


def test_tags():
    prompt = "a <lora:x:0.5>star<lyco:y> <lora:z:1:0.25><hypernet:h:1> <lora:k:te=0.3><lora:u:2:unet=-1>"
    assert loras.tags(prompt) == [("x", 0.5), ("y", 1), ("z", 0.25), ("k", 0.3), ("u", -1)]
    assert loras.without_tags(prompt) == "a star <hypernet:h:1> "
    for tag in ("<lora:x:much>", "<lora:x:nan>", "<lora:x:1:1e999>"):
        with pytest.raises(SettingsError, match=r"prompt, <lora:x:.*>: '.*' is not a weight"):
            loras.tags(f"a {tag}")


@pytest.mark.parametrize("items", [["x"], ["x", "0.5"], ["x", "0.5", "0.25"], ["x", "te=0.5"], ["x", "unet=0.5"],
                                   ["x", "0.5", "te=0.25"], ["x", "0.5", "0.25", "4"], ["x", "1", "dyn=3"]])
def test_a_tags_weight_is_the_unets_by_the_webuis_rules(items):
    """The rules of AUTOMATIC1111's extensions-builtin/Lora/extra_networks_lora.py, written down here."""
    positional = [item for item in items if "=" not in item]
    named = dict(item.split("=") for item in items if "=" in item)
    te = float(named.get("te", positional[1] if len(positional) > 1 else 1))
    assert loras.of_tag(items) == ("x", float(named.get("unet", positional[2] if len(positional) > 2 else te)))


def test_a_tag_in_a_key_frame_weighs_what_its_prompt_does():
    prompt = schedule("<lora:all:0.3> x\n0: a star <lora:zoom:0.8>\n4: a circle\n", 6)
    zoom, whole = sorted(loras.of_frames([prompt.shares(frame) for frame in range(6)]),
                         key=lambda wish: wish.name)[::-1]
    assert zoom.name == "zoom" and zoom.weight.values(6) == pytest.approx([0.8, 0.6, 0.4, 0.2, 0, 0])
    assert whole.name == "all" and whole.weight.constant == 0.3


@given(st.integers(1, 20), st.floats(-2, 2))
def test_a_tag_in_every_key_frame_is_constant(frames, weight):
    prompt = schedule(f"<lora:all:{weight}>\n0: a\n7 ease-in: b\n13: c", frames)
    wish, = loras.of_clip("", prompt)
    assert wish.weight.constant == pytest.approx(weight, abs=1e-8)


def test_named_twice_the_weights_add():
    wishes = loras.of_clip("a: 1; a: 0.5", schedule("x <lora:b:1><lora:b:0.25>", 3))
    assert [(wish.name, wish.weight.constant) for wish in wishes] == [("a", 1), ("a", 0.5), ("b", 1.25)]
