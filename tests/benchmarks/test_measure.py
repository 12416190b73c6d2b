"""The measurements that judge the demo model, on clips whose truth is known because we drew them."""
import random

import numpy as np
import pytest

from benchmarks.measure import look, track
from training.clips import DIRECTIONS, random_clip
from training.shapes import render


def _frames(clip, size=64):
    pictures, _ = render(clip.scene, size)
    return list(((pictures + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy())


@pytest.fixture(scope="module")
def clips():
    rng = random.Random(11)
    return [random_clip(rng) for _ in range(120)]


@pytest.mark.slow
def test_truth_is_recognised(clips):
    wrong = []
    for clip in clips:
        sights, direction = track(_frames(clip))
        named = clip.motion if clip.motion in DIRECTIONS else None
        shapes = [s.shape for s in sights]
        if any(s.colour != clip.colour for s in sights) or direction != named:
            wrong.append(clip.caption)
        elif shapes.count(clip.shape) < 14:
            wrong.append((clip.caption, shapes))
    assert len(wrong) <= 1, wrong


def test_noise_and_empty_pictures_are_nothing():
    assert look(np.full((64, 64, 3), 200, np.uint8)) is None
    rng = np.random.default_rng(0)
    sights, direction = track([rng.integers(0, 255, (64, 64, 3), dtype=np.uint8) for _ in range(16)])
    assert direction is None


@pytest.mark.slow
def test_a_shuffled_clip_has_no_direction(clips):
    rng = random.Random(5)
    moving = [c for c in clips if c.motion in DIRECTIONS]
    right = 0
    for clip in moving:
        frames = _frames(clip)
        rng.shuffle(frames)
        right += track(frames)[1] == clip.motion
    assert right / len(moving) < 0.4
