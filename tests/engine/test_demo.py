"""The demo model in the package: its size, its layout, and clips that match their prompts."""
from dataclasses import replace

import pytest
from safetensors import safe_open

from animatediff.clip.inputs import Inputs
from animatediff.engine import models
from animatediff.engine.pipeline import Pipeline
from animatediff.settings import Settings
from animatediff.travel import Schedule
from benchmarks import motion_lora
from benchmarks.demo_quality import prompts, score


@pytest.fixture(scope="module")
def demo():
    return Pipeline.load()


def test_weights_are_small_in_half_precision_with_the_usual_names():
    files = {path.name: path for path in models.DEMO.glob("*.safetensors")}
    assert sum(path.stat().st_size for path in files.values()) <= 24e6
    with safe_open(files["demo.safetensors"], "pt") as file:
        keys = set(file.keys())
        assert {file.get_slice(k).get_dtype() for k in keys} == {"F16"}
    assert "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight" in keys
    assert "first_stage_model.decoder.conv_in.weight" in keys
    assert "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight" in keys
    with safe_open(files["motion.safetensors"], "pt") as file:
        keys = set(file.keys())
    site = "mid_block.motion_modules.0.temporal_transformer.transformer_blocks.0."
    assert f"{site}attention_blocks.1.pos_encoder.pe" in keys and f"{site}ff.net.0.proj.weight" in keys


def test_family_of_the_demo_module(demo):
    assert demo.module.family.name == "v2"
    assert demo.module.max_frames == 32


@pytest.mark.slow
def test_clips_match_their_prompts(demo):
    """A short version of `python -m benchmarks demo_quality`, which makes 128 clips."""
    asked = [p for p in prompts() if p.direction][:8]
    assert len({p.direction for p in asked}) == 8
    scores = score(demo, asked, [3], Settings(enable=True))
    assert scores["colour"] >= 7 / 8 and scores["shape"] >= 6 / 8 and scores["direction"] >= 6 / 8, scores


def test_circle_of_the_readme_moves_right(demo):
    from benchmarks.measure import track

    sights, direction = track(list(demo.render(Settings(enable=True, prompt="a red circle moving right", seed=1))))
    assert direction == "right"
    assert {s.colour for s in sights if s} == {"red"}


def test_unknown_words_are_noted(demo):
    """Compared with the words of the training's captions."""
    from training.tokenizer import words

    def said(*prompts: str) -> str:
        inputs = Inputs.read(Settings(frames=len(prompts)), models.find_lora)
        inputs = replace(inputs, prompt=Schedule.of_frames(prompts))
        return "".join(note for note in demo.notices(inputs) if "never saw" in note)

    found = said("a red (Zebra:1.2) resting", "a red circle", "a zebra", "x 8")
    assert "never saw zebra, resting, x, 8," in found and "circle" in found and "--checkpoint" in found
    assert said("A red CIRCLE, at rest, on a (black:1.2) background", "", " ".join(words())) == ""
    known = {word.strip(",;.") for word in found.split("It knows")[1].split(" For other")[0].split()}
    assert {word for word in known if ":" not in word} - set(words()) <= {"or", "and", "sizes"}


LORAS = sorted(path.stem for path in models.DEMO_LORAS.glob("*.safetensors"))


def test_motion_loras_are_small_and_found_by_name():
    assert {"pan-left", "zoom-in"} <= set(LORAS)
    for name in LORAS:
        path = models.find_lora(name)
        assert path.parent == models.DEMO_LORAS and path.stat().st_size <= 2e6
        with safe_open(path, "pt") as file:
            assert {file.get_slice(key).get_dtype() for key in file.keys()} == {"F16"}  # noqa: SIM118


@pytest.mark.parametrize("name", LORAS)
@pytest.mark.slow
def test_motion_lora_moves_the_camera_as_its_name_says(demo, name):
    [found] = motion_lora.score(demo, name, motion_lora.prompts()[:1], [7])
    assert name in found.cameras, found


@pytest.mark.slow
@pytest.mark.parametrize("name", LORAS)
def test_motion_loras_move_the_camera_as_their_names_say(demo, name):
    """A short version of `python -m benchmarks motion_lora`."""
    asked, seeds = motion_lora.prompts()[:3], [7]
    with_it, without = (motion_lora.score(demo, text, asked, seeds) for text in (name, ""))
    assert sum(name in each.cameras for each in with_it) >= 2, with_it
    assert sum(name in each.cameras for each in without) <= 1, without
