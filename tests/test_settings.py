"""The table of settings: what is read, what is refused and how, and everything that derives from it."""
from __future__ import annotations

import argparse
import dataclasses
import json
import math
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as budget
from hypothesis import strategies as st

from animatediff import settings
from animatediff.errors import SettingsError
from animatediff.settings import PARAMETERS, Settings, parse

ISSUE = ("enable", "motion_module", "frames", "fps", "loop_number", "closed_loop", "context_length", "stride",
         "overlap", "formats", "request_id")
DEFAULTS = {
    "enable": False, "motion_module": "", "frames": 0, "fps": 8.0, "loop_number": 0, "closed_loop": "none",
    "context_length": 16, "stride": 1, "overlap": -1, "formats": ["GIF", "PNG"], "returns": "clip", "request_id": "",
    "batch_tab": "one clip", "preset": "off", "interp": "off", "interp_x": 2, "interp_model": "",
    "context_schedule": "uniform", "fuse_method": "pyramid", "noise": "per frame",
    "travel_interpolation": "auto", "travel_hold": 0.0, "travel_easing": "linear", "prompt_weights": "",
    "speed": "exact", "seam_repair": 0.0,
    "freeinit_iterations": 1, "freeinit_filter": "butterworth", "freeinit_d_s": 0.25, "freeinit_d_t": 0.25,
    "freeinit_order": 4, "freeinit_fast": False,
    "motion_lora": "",
    "last_frame": "", "frame_lock": "0", "latent_power": 1.0, "latent_scale": 32.0, "latent_power_last": 1.0,
    "latent_scale_last": 32.0,
    "motion_scale": "1", "motion_scale_steps": "1", "motion_effect": "1", "motion_mask": "", "motion_mask_min": 0.0,
    "motion_mask_max": 1.0,
    "audio": "", "audio_start": 0.0, "audio_loop": False, "video_codec": "auto", "video_crf": -1,
    "video_preset": "auto", "bit_depth": "8", "video_repeat": False,
    "video_source": "", "video_path": "", "mask_path": "", "video_start": 0.0, "video_end": 0.0, "video_fps": 0.0,
    "video_every": 1, "video_max_frames": 0, "fit": "crop", "denoising_strength_frames": "1",
    "score": False, "color_match": "off",
    "windows_per_call": 0,
    "prompt": "", "negative": "", "seed": -1, "steps": 20, "cfg": 5.0, "sampler": "DDIM",
    "schedule_type": "Automatic", "size": "",
    "init": "", "denoising_strength": 0.75,
    "checkpoint": "", "device": "auto", "dtype": "auto",
}


def refusal(key: str, value) -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        parse({key: value})
    return caught.value


def test_defaults():
    assert Settings().to_dict() == parse({}).to_dict() == DEFAULTS


def test_the_table_names_everything_once():
    assert {p.name for p in PARAMETERS} >= set(ISSUE)
    names = [name for p in PARAMETERS for name in (p.name, *p.aliases)]
    flags = [p.cli for p in PARAMETERS if p.cli]
    assert len(set(names)) == len(names) and len(set(flags)) == len(flags)
    for p in PARAMETERS:
        assert p.label and p.help.endswith(".") and p.group in settings.GROUPS
        assert p.read(p.default) == p.default, f"the default of {p.name} is outside its own range"
        assert all(p.read(choice if p.type is str else [choice]) in (choice, (choice,)) for choice in p.choices)


@pytest.mark.parametrize("key, value, name, expected", [
    ("frames", "16", "frames", 16), ("frames", 16.0, "frames", 16), ("frames", "16.0", "frames", 16),
    ("frames", " 16 ", "frames", 16), ("frames", np.int64(16), "frames", 16), ("frames", np.float32(16), "frames", 16),
    ("video_length", 24, "frames", 24),
    ("batch_size", 8, "context_length", 8),
    ("model", "mm.ckpt", "motion_module", "mm.ckpt"),
    ("motion_module", Path("model/mm.ckpt"), "motion_module", str(Path("model/mm.ckpt"))),
    ("fps", 23.976, "fps", 23.976), ("fps", "23.976", "fps", 23.976), ("fps", "24000/1001", "fps", 24000 / 1001),
    ("fps", Fraction(30000, 1001), "fps", 30000 / 1001), ("fps", 12, "fps", 12.0), ("fps", "8e-1", "fps", 0.8),
    ("enable", "true", "enable", True), ("enable", "True", "enable", True), ("enable", "off", "enable", False),
    ("overlap", -1, "overlap", -1), ("overlap", "15", "overlap", 15), ("overlap", 0, "overlap", 0),
    ("closed_loop", "r+p", "closed_loop", "R+P"), ("closed_loop", "R-P", "closed_loop", "R-P"),
    ("closed_loop", "a", "closed_loop", "A"), ("closed_loop", "N", "closed_loop", "none"),
    ("closed_loop", "Ping pong", "closed_loop", "ping-pong"),
    ("format", "gif,mp4", "formats", ("GIF", "MP4")), ("formats", ["mp4", "gif", "GIF"], "formats", ("GIF", "MP4")),
    ("format", ["Frame", "PNG"], "formats", ("PNG", "Frame")),
    ("formats", ["gif, webm", "txt"], "formats", ("GIF", "WEBM", "TXT")),
    ("formats", "WebP", "formats", ("WEBP",)), ("formats", ("APNG",), "formats", ("APNG",)),
    ("size", "512x768", "size", "512x768"),
    ("size", "512 X 768", "size", "512x768"),
    ("size", "512×768", "size", "512x768"),
    ("size", [512, 768], "size", "512x768"), ("size", "0064x64", "size", "64x64"),
    ("sampler", "euler a", "sampler", "Euler a"), ("sampler_name", "dpm++ 2m karras", "sampler", "DPM++ 2M"),
    ("seed", "4294967295", "seed", 4294967295),
    ("cfg_scale", 7, "cfg", 7.0),
    ("negative_prompt", "blurry", "negative", "blurry"),
    ("request_id", 1234, "request_id", "1234"), ("request_id", "客-1.a", "request_id", "客-1.a"),
    ("context_schedule", "static_standard", "context_schedule", "static standard"),
    ("fuse_method", "Overlap-Linear", "fuse_method", "overlap-linear"),
    ("device", "CUDA:1", "device", "cuda:1"),
    ("device", "gpu", "device", "cuda"),
    ("dtype", "float16", "dtype", "fp16"),
    ("prompt", "0: a\n8: b, 50%", "prompt", "0: a\n8: b, 50%"),
    ("noise", "freenoise", "noise", "FreeNoise"), ("freeinit_ds", "0.3", "freeinit_d_s", 0.3),
    ("freeinit_dt", 1, "freeinit_d_t", 1.0), ("freeinit_fast", "on", "freeinit_fast", True),
])
def test_values_as_users_write_them(key, value, name, expected):
    got = getattr(parse({key: value}), name)
    assert got == expected and type(got) is type(expected)


@pytest.mark.parametrize("key, value, what, remedy", [
    ("frames", 16.5, "16.5 is not a whole number", "0 to 100000"),
    ("frames", True, "True is not a number", "whole number"),
    ("frames", float("nan"), "nan is not a finite number", "whole number"),
    ("frames", -1, "-1 is out of range", "from 0"),
    ("frames", "sixteen", "'sixteen' is not a number", "whole number"),
    ("frames", None, "None is not a number", "the default is 0"),
    ("frames", "1_6", "'1_6' is not a number", ""),
    ("frames", [16], "[16] is not a number", ""),
    ("frames", "", "'' is not", ""),
    ("frames", float("inf"), "inf is not a finite", ""), ("frames", "1e999", "'1e999' is not a finite", ""),
    ("frames", 10**30, "is out of range", "100000"),
    ("frames", "9" * 6000, "is too large", ""),
    ("frames", 1 + 2j, "is not a number", ""),
    ("fps", -1, "-1 is out of range", "from 0 to 1000"), ("fps", 0.005, "0.005 is out of range", "0.01"),
    ("fps", float("nan"), "nan is not a finite number", ""),
    ("fps", "23,976", "'23,976' is not a number", ""),
    ("fps", "24/0", "'24/0' is not a number", ""),
    ("fps", False, "False is not", ""),
    ("fps", 10**400, "is too large", ""),
    ("stride", 0, "0 is out of range", "1 or more"), ("overlap", -2, "-2 is out of range", "-1 or more"),
    ("loop_number", 65536, "65536 is out of range", "0 to 65535"),
    ("context_length", 0, "0 is out of range", "1 to 1024"),
    ("batch_size", 0, "0 is out of range", "1 to 1024"),
    ("enable", 1, "1 is neither true nor false", "true or false"),
    ("enable", "maybe", "'maybe' is neither", "true or false"),
    ("enable", 0.0, "0 is neither", ""),
    ("closed_loop", "R", "'R' is unknown", "none, seamless, ping-pong, R-P, R+P, A"),
    ("closed_loop", True, "True is not text", "R-P"),
    ("format", "gif,mp5", "'mp5', which is unknown", "Did you mean MP4"),
    ("formats", ["GIV"], "'GIV', which", "Did you mean GIF"),
    ("formats", [], "[] names none", "one or more of GIF"), ("formats", " , ", "' , ' names none", "GIF"),
    ("formats", [1], "holds 1, which is not text", "GIF"), ("formats", {"GIF": True}, "not text", "GIF"),
    ("sampler", "Eulr a", "'Eulr a' is unknown", "Did you mean Euler a"), ("sampler", "", "'' is unknown", "DDIM"),
    ("size", "65x64", "'65x64' has a side that is not a multiple of 8", "WIDTHxHEIGHT"),
    ("size", "8x64", "out of range", "from 16"),
    ("size", "512", "'512' is not a size", "WIDTHxHEIGHT"),
    ("size", [512], "not a size", ""),
    ("size", 512, "not a size", ""),
    ("size", "64x9000", "out of range", "8192"),
    ("size", [64, 64.5], "not a multiple of 8", ""),
    ("size", [True, 64], "not a number", ""),
    ("request_id", "../up", "cannot be part of a file name", "120 characters"),
    ("request_id", "a\nb", "cannot be part", ""),
    ("request_id", "x" * 121, "cannot be part", ""), ("request_id", True, "True is not text", ""),
    ("prompt", 1.5, "1.5 is not text", "text"), ("prompt", "a\0b", "NUL", ""), ("prompt", "\ud800", "surrogate", ""),
    ("prompt", ["a"], "is not text", ""), ("motion_module", None, "None is not text", "the default is empty"),
    ("device", "cuda:x", "'cuda:x' is unknown", "auto, cpu, cuda, mps"), ("dtype", "fp8", "'fp8' is unknown", "fp16"),
    ("seed", -2, "-2 is out of range", "-1 to 4294967295"), ("steps", 0, "0 is out of range", "1 to 1000"),
    ("cfg", -0.5, "-0.5 is out of range", "0 to 100"),
    ("freeinit_iterations", 0, "0 is out of range", "1 to 20"), ("freeinit_dt", 1.5, "1.5 is out of range", "0 to 1"),
    ("freeinit_filter", "butter", "'butter' is unknown", "butterworth"),
])
def test_refusals_name_key_value_range_and_remedy(key, value, what, remedy):
    error = refusal(key, value)
    assert error.where == key and what in error.what and remedy in error.remedy
    assert error.remedy.endswith(".") and "Use " in error.remedy
    assert str(error).startswith(f"{key}: ") and error.exit_code == 2
    assert len(str(error)) < 500


def test_whole_numbers_are_shown_as_such():
    """A page's number fields hold floats."""
    assert str(refusal("fps", 2000.0)) == "fps: 2000 is out of range. Use a number from 0 to 1000; the default is 8."


@pytest.mark.parametrize("key, nearest", [
    ("fames", "frames"), ("video_lenght", "video_length"), ("Loop-Number", "loop_number"), ("--fps", "fps"),
    ("contextlength", "context_length"), ("fuse", "fuse_method"), ("context", "context_length"), ("strides", "stride"),
])
def test_an_unknown_key_is_refused_with_the_nearest_name(key, nearest):
    error = refusal(key, 3)
    assert error.where == key and "3" in error.what and f"Did you mean {nearest}?" in error.remedy


@pytest.mark.parametrize("key", ["", "zzzz", 3, None, ("frames",)])
def test_an_unlikely_key_is_refused_with_the_known_names(key):
    error = refusal(key, "x")
    assert "Did you mean" not in error.remedy
    assert "motion_module" in error.remedy


@pytest.mark.parametrize("values", [[("frames", 3)], "frames=3", None, 3])
def test_something_that_is_no_mapping_is_refused(values):
    with pytest.raises(SettingsError, match="names with values"):
        parse(values)


@pytest.mark.parametrize("context, overlap", [(16, 16), (16, 99), (1, 1)])
def test_the_overlap_is_less_than_the_context_length(context, overlap):
    with pytest.raises(SettingsError) as caught:
        parse({"context_length": context, "overlap": overlap})
    error = caught.value
    assert error.where == "overlap" and str(overlap) in error.what and str(context - 1) in error.remedy
    with pytest.raises(SettingsError):
        dataclasses.replace(Settings(context_length=context), overlap=overlap)


def test_overlap_below_the_context_length_is_accepted_and_resolved():
    assert parse({"batch_size": 17, "overlap": 16}).overlap_frames == 16
    assert [Settings(context_length=n).overlap_frames for n in (1, 3, 16, 18, 32)] == [0, 0, 4, 4, 8]


def test_a_name_and_its_alias_must_agree():
    assert parse({"frames": 16, "video_length": "16"}).frames == 16
    with pytest.raises(SettingsError) as caught:
        parse({"frames": 16, "video_length": 17})
    assert caught.value.where == "video_length" and "16" in caught.value.what and "17" in caught.value.what


def test_settings_are_read_by_the_table_however_they_are_made():
    assert Settings(fps="12", formats="mp4") == parse({"fps": 12, "formats": ["MP4"]})
    with pytest.raises(SettingsError, match="fps"):
        Settings(fps=-1)
    with pytest.raises(SettingsError, match="stride"):
        dataclasses.replace(Settings(), stride=0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().fps = 3
    assert len({Settings(), Settings(), Settings(fps=9)}) == 2


def test_zero_frames_are_the_sources_or_the_context_length():
    assert Settings().frame_count() == 16
    assert Settings(context_length=24).frame_count() == 24
    assert Settings().frame_count(423) == 423
    assert Settings(frames=8).frame_count(423) == 8


def test_parse_over_a_base_changes_only_what_is_named():
    base = parse({"fps": 23.976, "frames": 40, "formats": "mp4", "prompt": "a"})
    assert parse({"video_length": 12}, base) == dataclasses.replace(base, frames=12)


def test_width_and_height():
    assert (Settings(size="512x768").width, Settings(size="512x768").height) == (512, 768)


TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=30)
VALUES = {
    "enable": st.booleans(), "motion_module": TEXT, "frames": st.integers(0, 100_000),
    "fps": st.floats(0.01, 1000), "loop_number": st.integers(0, 65535),
    "closed_loop": st.sampled_from(settings.CLOSED_LOOPS), "context_length": st.integers(16, 1024),
    "stride": st.integers(1, 99), "overlap": st.integers(-1, 15), "prompt": TEXT, "negative": TEXT,
    "formats": st.lists(st.sampled_from(settings.FORMATS), min_size=1),
    "seed": st.integers(-1, 2**32 - 1), "steps": st.integers(1, 1000), "cfg": st.floats(0, 100),
    "size": st.tuples(st.integers(2, 1024), st.integers(2, 1024)).map(lambda s: f"{8 * s[0]}x{8 * s[1]}"),
    "sampler": st.sampled_from(settings.SAMPLERS), "noise": st.sampled_from(settings.NOISE_KINDS),
    "motion_scale": st.sampled_from(("1", "0.4, 1.2", "0: 1, 8: 1.5, 100%: 0", "1 + audio(bass, 0, 0.3)")),
    "bit_depth": st.sampled_from(settings.BIT_DEPTHS), "audio": TEXT, "motion_mask": TEXT,
}


@budget(max_examples=300, deadline=None)
@given(st.fixed_dictionaries({}, optional=VALUES))
def test_a_round_trip_through_json_gives_equal_settings(values):
    made = parse(values)
    assert parse(json.loads(json.dumps(made.to_dict()))) == made
    assert {name: getattr(made, name) for name in values if name != "formats"} == {
        name: value for name, value in values.items() if name != "formats"}
    assert set(made.formats) == set(values.get("formats", ("GIF", "PNG")))


ANYTHING = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=9), st.binary(max_size=3),
                     st.lists(st.one_of(st.integers(), st.text(max_size=4)), max_size=3),
                     st.dictionaries(TEXT, st.none(), max_size=2))


@budget(max_examples=600, deadline=None)
@given(st.sampled_from(PARAMETERS), ANYTHING)
def test_whatever_is_sent_is_read_or_refused_and_never_crashes(parameter, value):
    try:
        made = parse({parameter.name: value})
    except SettingsError as error:
        assert error.where == parameter.name and error.remedy
        return
    got = getattr(made, parameter.name)
    assert type(got) is parameter.type and parameter.read(got) == got
    if parameter.type in (int, float):
        assert parameter.minimum <= got <= (parameter.maximum or math.inf)


def schema_accepts(schema: dict, values: dict) -> bool:
    """A validator for the few words that the schema uses."""
    types = {"boolean": bool, "integer": int, "number": (int, float), "string": str, "array": list}

    def fits(rule: dict, value) -> bool:
        if "$ref" in rule:
            return fits(schema["properties"][rule["$ref"].rsplit("/", 1)[1]], value)
        kinds = [rule["type"]] if isinstance(rule["type"], str) else rule["type"]
        fitting = any(isinstance(value, types[kind]) for kind in kinds)
        if not fitting or (isinstance(value, bool) and rule["type"] != "boolean"):
            return False
        if "items" in rule and (len(value) < rule["minItems"] or not all(fits(rule["items"], v) for v in value)):
            return False
        return (("enum" not in rule or value in rule["enum"]) and ("minimum" not in rule or value >= rule["minimum"])
                and ("maximum" not in rule or value <= rule["maximum"])
                and ("maxLength" not in rule or len(value) <= rule["maxLength"])
                and ("pattern" not in rule or bool(re.search(rule["pattern"], value))))

    return not schema["additionalProperties"] and all(
        name in schema["properties"] and fits(schema["properties"][name], value) for name, value in values.items())


def test_the_json_schema_describes_every_parameter():
    schema = json.loads(json.dumps(settings.json_schema()))
    assert {name for name, rule in schema["properties"].items() if "$ref" not in rule} == {p.name for p in PARAMETERS}
    assert schema["properties"]["fps"] == {
        "title": "FPS", "description": settings.BY_NAME["fps"].help, "type": "number", "default": 8.0,
        "minimum": 0, "maximum": 1000}
    assert schema["properties"]["closed_loop"]["enum"] == ["none", "seamless", "ping-pong", "R-P", "R+P", "A"]
    assert schema["properties"]["video_length"] == {"$ref": "#/properties/frames"}
    assert {name: rule["default"] for name, rule in schema["properties"].items() if "$ref" not in rule} == DEFAULTS
    assert "sampler" not in settings.json_schema(groups=("clip",))["properties"]


@budget(max_examples=200, deadline=None)
@given(st.fixed_dictionaries({}, optional=VALUES))
def test_the_schema_accepts_what_parse_makes(values):
    assert schema_accepts(settings.json_schema(), parse(values).to_dict())


@pytest.mark.parametrize("values, good", [
    ({"video_length": 16, "format": ["GIF"], "device": "cuda:1", "request_id": "a"}, True), ({"fames": 1}, False),
    ({"frames": 16.5}, False),
    ({"frames": True}, False),
    ({"fps": -1}, False),
    ({"formats": []}, False),
    ({"format": ["MP5"]}, False),
    ({"closed_loop": "R"}, False),
    ({"request_id": "../up"}, False),
    ({"request_id": "x" * 121}, False),
    ({"size": "64"}, False),
    ({"enable": 1}, False), ({"stride": 0}, False), ({"seed": -2}, False), ({"device": "gpus"}, False),
])
def test_schema_and_parse_agree(values, good):
    assert schema_accepts(settings.json_schema(), values) is good
    try:
        parse(values)
        assert good
    except SettingsError:
        assert not good


def cli(*arguments: str, groups=settings.GROUPS) -> Settings:
    parser = argparse.ArgumentParser()
    parser.add_argument("prompt")
    settings.add_cli_arguments(parser, groups)
    return parse(settings.from_namespace(parser.parse_args(arguments)))


def test_the_command_line():
    """Issue 2's flags, each at a value other than its default."""
    made = cli("a red circle", "--negative", "blurry", "--format", "gif,mp4", "--frames", "24", "--fps", "23.976",
               "--loop-number", "3", "--closed-loop", "R+P", "--context", "12", "--stride", "2", "--overlap", "5",
               "--seed", "7",
               "--steps", "9", "--cfg", "2.5", "--sampler", "Euler a", "--size", "128x64", "--motion-module", "mm.ckpt",
               "--checkpoint", "sd.safetensors", "--device", "cpu", "--dtype", "bf16")
    expected = DEFAULTS | {
        "prompt": "a red circle", "negative": "blurry", "formats": ["GIF", "MP4"], "frames": 24, "fps": 23.976,
        "loop_number": 3,
        "closed_loop": "R+P", "context_length": 12, "stride": 2, "overlap": 5, "seed": 7, "steps": 9, "cfg": 2.5,
        "sampler": "Euler a", "size": "128x64", "motion_module": "mm.ckpt", "checkpoint": "sd.safetensors",
        "device": "cpu",
        "dtype": "bf16"}
    assert made.to_dict() == expected


def test_flags_that_are_not_given_name_nothing():
    parser = argparse.ArgumentParser()
    settings.add_cli_arguments(parser)
    assert settings.from_namespace(parser.parse_args([])) == {}
    assert cli("p", "--overlap", "-1", "--seed", "-1") == Settings(prompt="p")
    assert cli("p", "--format", "gif", "--format", "txt").formats == ("GIF", "TXT")


def test_every_flag_has_help_with_its_range_and_default():
    parser = argparse.ArgumentParser(prog="animatediff")
    settings.add_cli_arguments(parser)
    text = " ".join(parser.format_help().split())
    for p in PARAMETERS:
        assert not p.cli or p.cli in text
    assert "from 0 to 1000; default: 8.0" in text and "default: GIF,PNG" in text
    assert "--enable" not in text


def test_the_core_names_what_the_other_parts_offer():
    """The constants here exist so that this file imports no torch; they must not drift."""
    from animatediff.sampling import noise
    assert tuple(noise.KINDS) == settings.NOISE_KINDS
