"""Prompt travel with the demo model: measured colours change at the key frames."""
from __future__ import annotations

import numpy as np
import pytest

from animatediff.engine.pipeline import Pipeline
from animatediff.settings import Settings
from benchmarks.measure import look
from training.shapes import COLOURS

RED, BLUE, YELLOW = (np.array(COLOURS[name], dtype=float) for name in ("red", "blue", "yellow"))


@pytest.fixture(scope="module")
def demo():
    return Pipeline.load()


def colours(demo: Pipeline, **settings) -> np.ndarray:
    """Return the shape's mean colour in each of 16 frames, [16 3]."""
    found = []
    for frame in demo.render(Settings(enable=True, seed=3, **settings)):
        apart = np.abs(frame.astype(float) - look(frame).background).sum(-1)
        found.append(frame[apart > apart.max() / 2].mean(0))
    return np.array(found)


def towards(goal: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Return the position of colours on the line from red (0) to the goal (1)."""
    return (colour - RED) @ (goal - RED) / ((goal - RED) @ (goal - RED))


@pytest.mark.slow
def test_held_prompt_changes_the_colour_within_two_frames_of_its_key_frame(demo):
    share = towards(BLUE, colours(demo, prompt="0: a red circle at rest\n8: a blue circle at rest", travel_hold=1))
    assert share[:6].max() < 0.25 and share[11:].min() > 0.5, share
    assert 6 <= int(np.argmax(np.diff(share))) + 1 <= 10, share


@pytest.mark.slow
def test_interpolated_prompt_passes_through_the_colours_between(demo):
    found = colours(demo, prompt="0: a red circle at rest\n15: a yellow circle at rest")
    share = towards(YELLOW, found)
    assert share[0] < 0.2 and share[15] > 0.8, share
    assert ((share > 0.25) & (share < 0.75)).sum() >= 4, share
    assert np.linalg.norm(found - RED - share[:, None] * (YELLOW - RED), axis=1).max() < 40, found  # no other colours


@pytest.mark.slow
def test_travelling_negative_prompt_has_an_effect(demo):
    """The negative prompt is red in the first half and blue in the second."""
    travelling = "0: a red circle at rest\n8: a blue circle at rest"
    share = towards(BLUE, colours(demo, prompt="a circle at rest", negative=travelling, travel_hold=1))
    still = towards(BLUE, colours(demo, prompt="a circle at rest", negative="a red circle at rest"))
    assert share[:6].mean() > share[11:].mean() + 0.15, share
    assert abs(still[:6].mean() - still[11:].mean()) < 0.05, still
