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
from training.motion_lora import CAMERAS, PAN, ZOOM, LowRank, through
from training.shapes import render

ROOT = Path(__file__).resolve().parents[2]


def frames(scene) -> list[np.ndarray]:
    return list(((render(scene, 64)[0] + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy())


@pytest.fixture(scope="module")
def resting():
    """Clips of shapes at rest, near enough to the middle to stay in the frame."""
    rng = random.Random(3)
    clips = [clip for clip in (random_clip(rng) for _ in range(2000)) if clip.motion == "rest"]
    near = [clip.scene for clip in clips if max(abs(clip.scene.x[0] - 32), abs(clip.scene.y[0] - 32)) < 9
            and clip.scene.radius[0] < 12]
    assert len(near) > 5
    return near


@pytest.mark.parametrize("camera", CAMERAS)
def test_a_camera_moves_the_whole_scene(camera, resting):
    """By the pictures: lengths change by the zoom, places about the middle of the frame, the pan shifts to the right."""
    zoom = {"zoom-in": ZOOM, "zoom-out": 1 / ZOOM}.get(camera, 1)
    right = {"pan-left": PAN, "pan-right": -PAN}.get(camera, 0)
    for scene in resting:
        found = movement(frames(through(camera, scene)))
        beside = float(scene.x[0] - 32) * (zoom**0.5 - zoom**-0.5)
        assert found.zoom == pytest.approx(zoom, rel=0.1) and abs(found.right - right - beside) < 1.5
        assert abs(movement(frames(scene)).right) < 0.5 and not movement(frames(scene)).cameras
        assert camera in found.cameras and (abs(beside) > 4 or found.cameras == {camera})


def test_a_new_low_rank_changes_nothing():
    layer = torch.nn.Linear(8, 4)
    assert not LowRank(layer, 2)(torch.randn(3, 8)).any()


def test_the_command_makes_a_motion_lora(tmp_path):
    from animatediff.engine.models import DEMO_MODULE
    from animatediff.motion.load import describe

    done = subprocess.run([sys.executable, "-m", "training.motion_lora", "pan-right", "--work", tmp_path / "run", "--out",
                           tmp_path / "out", "--lora-clips", "2", "--lora-steps", "1", "--rank", "2"],
                          cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    about = lora_files.describe(tmp_path / "out" / "pan-right.safetensors")
    assert (about.kind, about.rank, about.has_mid, len(about.layers)) == ("motion LoRA", 2, True, 21 * 8)
    lora.check_fit(about, describe(DEMO_MODULE))
    unknown = subprocess.run([sys.executable, "-m", "training.motion_lora", "roll"], cwd=ROOT, capture_output=True, text=True)
    assert unknown.returncode == 2 and "there are zoom-in, zoom-out, pan-left, pan-right" in unknown.stderr
