"""Notes on distilled models in a clip's plan. Models are recognised by name or title, AnimateLCM by its tensors."""
from __future__ import annotations

from safetensors.torch import load_file, save_file
from tiny_models import write_checkpoint, write_module

from animatediff.engine import checkpoint
from animatediff.engine.pipeline import Pipeline
from animatediff.motion import describe, load
from animatediff.settings import parse


def test_plan_notes_settings_that_do_not_fit_a_distilled_module(tmp_path):
    image = checkpoint.load(write_checkpoint(tmp_path))
    plain = write_module(tmp_path / "v2.safetensors")
    titled = tmp_path / "renamed.safetensors"
    save_file(load_file(plain), titled, {"modelspec.title": "AnimateDiff-Lightning 4 steps"})
    named = write_module(tmp_path / "animatediff_lightning_4step_comfyui.ckpt")

    def notes(module, **values):
        pipeline = Pipeline(image, load(module))
        given = {"enable": True, "prompt": "a cat", "motion_module": str(module), "frames": 16, **values}
        return [note for note in pipeline.plan(parse(given)).notices if "distilled" in note or "trained for" in note]

    assert not notes(plain)
    for module in (titled, named):
        assert "AnimateDiff-Lightning" in notes(module)[0] and module.name in notes(module)[0]
        assert "999, 666, 333, 0" in notes(module, steps=4, cfg=1, sampler="Euler")[0]
        assert not notes(module, steps=4, cfg=1, sampler="Euler", schedule_type="SGM Uniform")
    assert not notes(named, preset="few steps")
    assert "none was found for this clip" in notes(plain, preset="few steps")[0]


def test_animatelcm_is_recognised_under_any_name(tmp_path):
    path = write_module(tmp_path / "mine.safetensors", "AnimateLCM")
    assert describe(path).distilled.name == load(path).distilled.name == "AnimateLCM"
    assert describe(write_module(tmp_path / "v3.safetensors", "v3")).distilled is None
