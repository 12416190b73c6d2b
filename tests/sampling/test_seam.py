"""Seam repair: the frames that are denoised again, from which step, and the frames that are held until then."""
from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from animatediff.sampling.from_pictures import Held
from animatediff.sampling.seam import Seam


@pytest.mark.parametrize(("case", "window", "joins"), [
    ((16, 8, 6), (12, 13, 14, 15, 0, 1, 2, 3), (6, 2, 0, 0, 0, 0, 2, 6)),
    ((4, 16, 5), (2, 3, 0, 1), (5, 0, 0, 5)), ((7, 7, 4), (4, 5, 6, 0, 1, 2, 3), (4, 0, 0, 0, 0, 4, 4)),
    ((40, 12, 10), (34, 35, 36, 37, 38, 39, 0, 1, 2, 3, 4, 5), (10, 6, 2, 0, 0, 0, 0, 0, 0, 2, 6, 10)),
])  # fmt: skip
def test_windows_and_joins_computed_by_hand(case, window, joins):
    seam = Seam.of(*case)
    assert (seam.window, seam.joins) == (window, joins)


@given(st.integers(1, 60), st.integers(1, 32), st.integers(0, 50))
def test_ends_of_the_window_stay_and_the_seam_is_denoised_first(frames, context, steps):
    seam = Seam.of(frames, context, steps)
    if seam is None:
        assert steps == 0 or min(frames, context) < 4
        return
    assert len(set(seam.window)) == len(seam.window) == min(frames, context)
    assert all((b - a) % frames == 1 for a, b in zip(seam.window, seam.window[1:]))
    join = dict(zip(seam.window, seam.joins))
    assert join[frames - 1] == join[0] == 0
    assert seam.joins[0] == seam.joins[-1] == steps
    half = len(seam.window) // 2
    assert list(seam.joins[half:]) == sorted(seam.joins[half:])
    assert list(seam.joins[:half]) == sorted(seam.joins[:half], reverse=True)


def test_frames_are_held_until_they_join():
    seam = Seam.of(16, 8, 6)
    clip, new = torch.arange(16.0).view(16, 1, 1, 1), torch.full((16, 1, 1, 1), -1.0)
    held = seam.held(clip)

    def answers(step: int) -> list[int]:
        return held.of(seam.window).into(new[:8], step / 6, lambda x0: x0).flatten().int().tolist()

    assert answers(0) == answers(1) == [12, 13, -1, -1, -1, -1, 2, 3]
    assert answers(2) == answers(5) == [12, -1, -1, -1, -1, -1, -1, 3]
    assert held.pinned(new).flatten().int().tolist() == [-1] * 3 + [*range(3, 13)] + [-1] * 3


def test_frames_held_to_pictures_to_the_end_stay():
    clip = torch.zeros(16, 1, 1, 1)
    pictures = Held(clip, torch.tensor([1.0] + [0.9] * 15, dtype=torch.float64))
    until = Seam.of(16, 8, 6).held(clip, pictures).until
    assert until[0] == 1 and until[15] == 0
