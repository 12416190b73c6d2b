"""Distilled models by their published names, their settings by their authors' pages, and their steps by diffusers."""
from __future__ import annotations

import numpy as np
import pytest

from animatediff import few_steps, settings
from animatediff.engine import grids
from animatediff.faces.cli import main as cli
from animatediff.few_steps import Run

# File names from the authors' pages; sampler, schedule type, CFG and steps that they recommend there.
PUBLISHED = {
    **{f"animatediff_lightning_{n}step_{kind}.safetensors": ("Euler", "SGM Uniform", 1, n)
       for n in (1, 2, 4, 8) for kind in ("comfyui", "diffusers")},
    "AnimateLCM_sd15_t2v.ckpt": ("LCM", "Automatic", 1.5, 6),
    "AnimateLCM_sd15_t2v_lora.safetensors": ("LCM", "Automatic", 1.5, 6),
    "lcm-lora-sdv1-5": ("LCM", "Automatic", 1.5, 6), "LCM_Dreamshaper_v7": ("LCM", "Automatic", 1.5, 6),
    "Hyper-SD15-1step-lora.safetensors": ("Euler", "SGM Uniform", 1, 1),
    "Hyper-SD15-8steps-lora.safetensors": ("Euler", "SGM Uniform", 1, 8),
    "Hyper-SD15-8steps-CFG-lora.safetensors": ("Euler", "SGM Uniform", 5, 8),
    "Hyper-SD15-12steps-CFG-lora.safetensors": ("Euler", "SGM Uniform", 5, 12),
    "realisticVisionV60B1_v51HyperVAE.safetensors": ("Euler", "SGM Uniform", 1, 4),
    "sdxl_lightning_4step_lora.safetensors": ("Euler", "SGM Uniform", 1, 4),
}
OTHERS = ["mm_sd_v15_v2.ckpt", "v3_sd15_mm.ckpt", "temporaldiff-v1-animatediff.ckpt", "mm-Stabilized_high.pth",
          "hyperrealism_v3.safetensors", "hypernetwork.pt", "falcmore", "improved_4_steps_2.ckpt", ""]
ORDER = ("sampler", "schedule_type", "cfg", "steps")


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_preset_sets_what_the_authors_recommend(name):
    kind = "motion_module" if "lora" not in name and "animate" in name.lower() else "prompt"
    value = name if kind == "motion_module" else f"a cat <lora:{name.removesuffix('.safetensors')}:0.8>"
    found = settings.parse({kind: value, "preset": "few steps"})
    assert tuple(getattr(found, key) for key in ORDER) == PUBLISHED[name]
    run = Run(found.sampler, found.schedule_type, found.steps, found.cfg)
    assert not few_steps.notices(name, few_steps.recognised(name), run)


@pytest.mark.parametrize("name", OTHERS)
def test_other_models_are_not_taken_for_distilled(name):
    assert few_steps.recognised(name) is None


def test_the_module_counts_before_a_lora_and_a_lora_before_the_checkpoint():
    lora, checkpoint = "x <lora:Hyper-SD15-8steps-lora:1>", "dreamshaper_8LCM.safetensors"
    assert few_steps.preset("AnimateLCM.ckpt", lora, checkpoint)["sampler"] == "LCM"
    assert few_steps.preset("v3.ckpt", lora, checkpoint)["steps"] == 8
    assert few_steps.preset("v3.ckpt", "x <lora:zoom-in:bad weight>", checkpoint)["sampler"] == "LCM"
    assert few_steps.preset("v3.ckpt") == few_steps.KINDS[0].values


def test_what_is_given_stays():
    given = {"motion_module": "animatediff_lightning_4step_comfyui", "preset": "few steps", "steps": 8, "cfg_scale": 2}
    found = settings.parse(given)
    assert (found.steps, found.cfg, found.sampler, found.schedule_type) == (8, 2, "Euler", "SGM Uniform")
    assert settings.parse({**given, "preset": "off"}).sampler == "DDIM"
    assert settings.parse(found.to_dict()) == found


def test_on_the_command_line(tmp_path):
    def of(*words):
        from animatediff.faces.cli import request

        return request.settings_of(cli.parser().parse_args(["render", "x", *words]))[0]

    found = of("--motion-module", "animatediff_lightning_2step.safetensors", "--preset", "few steps", "--cfg", "1.5")
    assert (found.steps, found.cfg, found.sampler) == (2, 1.5, "Euler")
    assert of("--motion-module", "animatediff_lightning_2step.safetensors").steps == 20


def test_beside_from_the_preset_takes_the_place_of_the_files_values(tmp_path, monkeypatch):
    from animatediff.faces.cli import request

    about = {"settings": settings.Settings(steps=30, cfg=9, prompt="a cat", seed=3).to_dict()}
    monkeypatch.setattr(request, "carried", lambda path: about)
    arguments = cli.parser().parse_args(["render", "--from", "a.gif", "--preset", "few steps"])
    found = request.settings_of(arguments)[0]
    assert (found.steps, found.cfg, found.prompt, found.seed) == (4, 1, "a cat", 3)


@pytest.mark.parametrize("steps", [1, 2, 4, 8])
def test_sgm_uniform_has_the_steps_that_lightning_is_trained_on(steps):
    """As its authors set diffusers' scheduler."""
    from diffusers import EulerDiscreteScheduler

    theirs = EulerDiscreteScheduler(timestep_spacing="trailing", beta_schedule="linear")
    theirs.set_timesteps(steps)
    sigmas = np.linspace(0.03, 25, 1000)
    trained = theirs.timesteps.numpy()
    assert np.allclose(grids.times("SGM Uniform", steps, sigmas), trained, atol=1)
    assert np.allclose(grids.times("trailing", steps, sigmas), trained, atol=1)
    model = few_steps.recognised(f"animatediff_lightning_{steps}step")
    said = "".join(few_steps.notices("al", model, Run("Euler", "Uniform", steps, 1)))
    if steps == 1:  # the first step is the last one of training with every schedule type
        assert not said
        return
    assert ", ".join(str(int(t)) for t in trained) in said
    assert ", ".join(str(round(t)) for t in grids.times("Uniform", steps, sigmas)) in said


@pytest.mark.parametrize("run, words", [
    (Run("DDIM", "trailing", 20, 7.0), ["Euler, the schedule type SGM Uniform, CFG 1 and 4 steps", "preset few steps"]),
    (Run("Euler", "SGM Uniform", 4, 7.0), ["CFG 1"]), (Run("LCM", "lcm", 4, 1.0), ["Euler"]),
    (Run("Euler", "Karras", 4, 1.0), ["999, 749, 499, 249", "Karras", "are others"]),
    (Run("DDIM", "its own", 4, 1.0), ["999, 749, 499, 249", "use Euler with the schedule type SGM Uniform"]),
    (Run("Euler", "Uniform", 4, 1.0), ["999, 666, 333, 0"]), (Run("Euler", "Simple", 4, 1.0), []),
    (Run("DDIM", "trailing", 4, 1.0), []),
])  # fmt: skip
def test_notes_on_lightning(run, words):
    said = few_steps.notices("al.safetensors", few_steps.recognised("animatediff_lightning_4step"), run)
    assert len(said) == bool(words) and all(word in said[0] for word in words)


def test_three_steps_with_the_file_for_two():
    model = few_steps.recognised("animatediff_lightning_2step")
    assert not few_steps.notices("al", model, Run("Euler", "SGM Uniform", 3, 1.0))
