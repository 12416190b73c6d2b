"""The infotext of a clip, written and parsed by copies of the WebUI's quoting and parsing functions.

If a WebUI is given (WEBUI_DIR), the copies are compared with its source.
"""
from __future__ import annotations

import ast
import json
import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from animatediff.hosts.shared import infotext
from animatediff.settings import PARAMETERS, Settings

# modules/infotext_utils.py of 1.10.1.
RE_PARAM_CODE = r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)'
CLIP = {p.name: p for p in PARAMETERS if p.group == "clip"}


def quote(text):
    if ',' not in str(text) and '\n' not in str(text) and ':' not in str(text):
        return text

    return json.dumps(text, ensure_ascii=False)


def unquote(text):
    if len(text) == 0 or text[0] != '"' or text[-1] != '"':
        return text

    try:
        return json.loads(text)
    except Exception:
        return text


def through_the_host(value: str) -> dict[str, str]:
    """Return the values written as by processing.create_infotext and read as by parse_generation_parameters."""
    facts = {"Steps": 20, "Sampler": "Euler a", "Seed": 7, "Size": "64x64", "AnimateDiff": value, "Version": "v1.10.1"}
    written = "a cat, sitting: there\nNegative prompt: dog\n" + ", ".join(f"{k}: {quote(v)}" for k, v in facts.items())
    *_, last = written.strip().split("\n")
    return {key: unquote(found) for key, found in re.findall(RE_PARAM_CODE, last)}


def test_the_restatement_is_the_hosts():
    folder = os.environ.get("WEBUI_DIR")
    if not folder:
        pytest.skip("needs WEBUI_DIR")
    source = (Path(folder) / "modules" / "infotext_utils.py").read_text("utf-8")
    theirs = {node.name: ast.dump(node) for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)}
    ours = {node.name: ast.dump(node) for node in ast.parse(Path(__file__).read_text("utf-8")).body
            if isinstance(node, ast.FunctionDef)}
    assert theirs["quote"] == ours["quote"] and theirs["unquote"] == ours["unquote"]
    assert f"re_param_code = r'{RE_PARAM_CODE}'" in source
    assert "[k if k == v else f'{k}: {infotext_utils.quote(v)}'" in (
        Path(folder) / "modules" / "processing.py").read_text("utf-8")


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40) | st.sampled_from(
    ["a, b: c", 'say "x"', "a\nb", "\\", '\\"', "frames: 9", ", frames: 9", "x, y", " blank ", "None", "True", '"',
     "モーション, v3.ckpt", "C:\\models\\mm.ckpt", "+", "a+b", "\u2028", "\r\n", "\x85", "enable", ",", ":", '",',
     '"a", b: "c"'])
FILE_PART = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters='/\\:*?"<>|'),
                    max_size=120).filter(lambda text: not text.startswith("."))


def values_of(p):
    if p.type is bool:
        return st.booleans()
    if p.type is tuple:
        return st.lists(st.sampled_from(p.choices), min_size=1, unique=True)
    if p.choices:
        return st.sampled_from(p.choices)
    if p.name == "prompt_weights":
        return st.just("") | TEXT.filter(lambda text: text.strip() and ";" not in text).map("pw_a = {}".format)
    if p.name == "motion_lora":
        names = TEXT.filter(lambda text: text.strip() and not set(text) & set('"\n\r'))
        return st.just("") | names.map('"{}": 0: 1, 8: -0.5; zoom-in'.format)
    if p.form == "curve":
        places = st.floats(-99, 99).map("{:g}".format)
        numbers = st.floats(p.minimum, p.maximum).map("{:g}".format)
        return st.lists(numbers | st.tuples(places, numbers).map(": ".join), min_size=1, max_size=4).filter(
            lambda parts: len({":" in part for part in parts}) == 1).map(", ".join)
    if p.type is str:
        return FILE_PART if p.form == "file name" else TEXT
    if p.name == "overlap":
        return st.integers(-1, 8)  # mostly below the context length
    if p.name in ("fps", "video_fps"):
        return st.floats(0.01, 1000)
    if p.name in ("video_start", "video_end"):  # in this order
        return st.floats(0, 40_000) if p.name == "video_start" else st.floats(50_000, p.maximum)
    low, high = p.minimum, p.maximum if p.maximum is not None else 10**12
    return st.integers(int(low), int(high)) if p.type is int else st.floats(low, high, allow_nan=False)


CLIPS = st.fixed_dictionaries({name: values_of(p) for name, p in CLIP.items()}).filter(
    lambda values: values["overlap"] < values["context_length"])


@given(CLIPS)
def test_everything_comes_back(values):
    settings = Settings(**values)
    found = through_the_host(infotext.dumps(settings, family="v3", note="x, y: z"))
    assert found["Version"] == "v1.10.1" and found["Seed"] == "7" and found["Size"] == "64x64"
    assert infotext.loads(found["AnimateDiff"]) == {name: getattr(settings, name) for name in CLIP}


def test_what_a_person_sees():
    settings = Settings(enable=True, motion_module="mm_v3.ckpt", frames=16)
    assert infotext.dumps(settings) == "enable: True, motion_module: mm_v3.ckpt, frames: 16, fps: 8, context_length: 16"
    settings = Settings(enable=True, motion_module="a, b.ckpt", frames=32, fps=23.976, closed_loop="R+P",
                        formats=("MP4", "PNG"), context_length=8)
    assert infotext.dumps(settings, family="v3") == (
        'enable: True, motion_module: "a, b.ckpt", frames: 32, fps: 23.976, context_length: 8, closed_loop: R+P, '
        "formats: MP4+PNG, family: v3")


def test_further_facts_must_not_look_like_parameters():
    for name in ("frames", "video_length", "a b", "seed"):
        with pytest.raises(ValueError, match=name):
            infotext.dumps(Settings(), **{name: 1})


def test_no_choice_of_a_list_holds_what_joins_them():
    assert not [c for p in PARAMETERS if p.type is tuple for c in p.choices if infotext.BETWEEN in c]


OLDER = ("enable: True, model: mm_sd_v15_v2.ckpt, video_length: 24, fps: 12, loop_number: 0, closed_loop: R-P, "
         "batch_size: 16, stride: 1, overlap: 4, interp: Off, interp_x: 10, mm_hash: 69ed0f5f")


def test_text_of_the_older_extension():
    read = infotext.loads(through_the_host(OLDER)["AnimateDiff"])
    assert read == {"enable": True, "motion_module": "mm_sd_v15_v2.ckpt", "frames": 24, "fps": 12.0, "loop_number": 0,
                    "closed_loop": "R-P", "context_length": 16, "stride": 1, "overlap": 4}
    assert infotext.loads("model: a, b.ckpt, video_length: 8")["motion_module"] == "a, b.ckpt"
    assert "motion_module" not in infotext.loads("model: None, video_length: 8")
    assert infotext.loads("model: x, video_length: 8, freeinit_enable: False, version: v1.9")["enable"] is True
    assert "freeinit_iterations" not in infotext.loads("model: x, video_length: 8, freeinit_enable: False")
    assert infotext.loads("model: x, video_length: 8, freeinit_enable: True")["freeinit_iterations"] == 3


def test_what_cannot_be_read_is_left_out():
    assert infotext.loads("") == infotext.loads("no text of ours") == {}
    read = infotext.loads("enable: True, frames: many, fps: -1, from_the_future: 3, seed: 4, stride: 2")
    assert (read["frames"], read["fps"], read["stride"]) == (0, 8.0, 2) and not {"from_the_future", "seed"} & set(read)


def pasted(params, *, expanded=True):
    """Return the values that the host (connect_paste) gives the controls when a text is pasted: control -> new value.
    """
    if expanded:
        infotext.expand(params)
    fields = {name: infotext.Field.of(name) for name in CLIP}
    found = {name: field(params) if callable(field) else params.get(field) for name, field in fields.items()}
    return {name: value for name, value in found.items() if value is not None}


@pytest.mark.parametrize("expanded", [True, False])  # False: as the API's `infotext`
def test_pasting_restores_every_control(expanded):
    settings = Settings(enable=True, motion_module="m, n.ckpt", frames=9, formats=("GIF", "TXT"), noise="constant")
    found = pasted(through_the_host(infotext.dumps(settings)), expanded=expanded)
    assert found == {**settings.to_dict(("clip",)), "formats": ["GIF", "TXT"]} and type(found["formats"]) is list


def test_pasting_a_still_pictures_text_touches_nothing():
    assert pasted({"Seed": "7", "Prompt": "a cat"}) == pasted({}, expanded=False) == {}


def test_pasting_the_older_extensions_text_leaves_the_formats():
    found = pasted({"AnimateDiff": OLDER})
    assert found["frames"] == 24 and "formats" not in found and "noise" not in found
    assert pasted({"AnimateDiff": OLDER}, expanded=False) == found


def test_pasting_with_the_older_extension_installed():
    """The older extension splits the text at ", " and ": " and removes the key, either before or after our hook."""
    settings = Settings(enable=True, motion_module="mm.ckpt", frames=9, stride=2)
    params = {f"AnimateDiff {k}": v for k, v in (item.split(": ") for item in infotext.dumps(settings).split(", "))}
    assert pasted(params) == {**settings.to_dict(("clip",))}
    assert pasted({f"AnimateDiff {k}": v for k, v in (item.split(": ") for item in OLDER.split(", "))})["frames"] == 24
    params = {"AnimateDiff": infotext.dumps(settings)}
    infotext.expand(params)
    assert all(isinstance(value, str) for value in params.values())  # the older extension asserts this


def test_names_for_sending_controls_to_another_tab():
    """connect_paste_params_buttons compares names. PasteField takes a text as a label, and calls a callable."""
    field = infotext.Field.of("frames")
    assert field == "AnimateDiff frames" and isinstance(field, str) and callable(field)
    assert field in ["AnimateDiff frames"]
