"""The camera of the motion LoRAs' clips, the measurement that judges them, and the command in miniature."""
from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from animatediff.motion import lora, lora_files
from benchmarks.motion_lora import movement
from training.clips import random_clip
from training.motion_lora import CAMERAS, LowRank, filmed
from training.shapes import render

ROOT = Path(__file__).resolve().parents[2]


def frames(scene) -> list[np.ndarray]:
    return list(((render(scene, 64)[0] + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy())


@pytest.mark.parametrize("camera", CAMERAS)
def test_a_camera_moves_the_whole_scene(camera):
    """By the pictures: lengths change by the zoom, places about the middle of the frame,
    the pan shifts to the right."""
    begin, end, pan, _ = CAMERAS[camera]
    filmed_and_not = [(filmed(camera, random.Random(seed)), random_clip(random.Random(seed))) for seed in range(400)]
    resting = [(found.scene, plain.scene) for found, plain in filmed_and_not if plain.motion == "rest"
               and abs(plain.scene.x[0] - 32) + plain.scene.radius[0] < 18]
    assert len(resting) > 3
    for scene, plain in resting:
        found, still = movement(frames(scene)), movement(frames(plain))
        beside = float(plain.x[0] - 32) * (end - begin)
        assert found.zoom == pytest.approx(end / begin, rel=0.1) and abs(found.right - pan - beside) < 1.5
        assert camera in found.cameras and not still.cameras and abs(still.right) < 0.5


def test_a_new_low_rank_changes_nothing():
    layer = torch.nn.Linear(8, 4)
    assert not LowRank(layer, 2)(torch.randn(3, 8)).any()


@pytest.mark.slow
def test_the_command_makes_a_motion_lora(tmp_path):
    from animatediff.engine.models import DEMO_MODULE
    from animatediff.motion.load import describe

    done = subprocess.run([sys.executable, "-m", "training.motion_lora", "pan-right", "--work", tmp_path / "run",
                           "--out", tmp_path / "out", "--lora-clips", "2", "--lora-steps", "1", "--rank", "2"],
                          cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    about = lora_files.describe(tmp_path / "out" / "pan-right.safetensors")
    assert (about.kind, about.rank, about.has_mid, len(about.layers)) == ("motion LoRA", 2, True, 21 * 8)
    lora.check_fit(about, describe(DEMO_MODULE))
    unknown = subprocess.run([sys.executable, "-m", "training.motion_lora", "roll"],
                             cwd=ROOT, capture_output=True, text=True)
    assert unknown.returncode == 2 and "there are zoom-in, zoom-out, pan-left, pan-right" in unknown.stderr
