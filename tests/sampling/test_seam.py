"""Which frames a seam repair makes anew, from which step on, and what it holds in place until then."""
from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from animatediff.sampling.seam import Seam


@pytest.mark.parametrize(("case", "window", "joins"), [
    ((16, 8, 6), (12, 13, 14, 15, 0, 1, 2, 3), (6, 2, 0, 0, 0, 0, 2, 6)),
    ((4, 16, 5), (2, 3, 0, 1), (5, 0, 0, 5)), ((7, 7, 4), (4, 5, 6, 0, 1, 2, 3), (4, 0, 0, 0, 0, 4, 4)),
    ((40, 12, 10), (34, 35, 36, 37, 38, 39, 0, 1, 2, 3, 4, 5), (10, 6, 2, 0, 0, 0, 0, 0, 0, 2, 6, 10)),
])  # fmt: skip
def test_by_hand(case, window, joins):
    seam = Seam.of(*case)
    assert (seam.window, seam.joins) == (window, joins)


@given(st.integers(1, 60), st.integers(1, 32), st.integers(0, 50))
def test_the_ends_stay_and_the_seam_is_made_anew(frames, context, steps):
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


def test_what_has_not_joined_is_put_back():
    seam = Seam.of(16, 8, 6)
    finished, noise = torch.arange(8.0).view(8, 1, 1, 1), torch.full((8, 1, 1, 1), 100.0)
    hold = seam.holder(finished, noise, lambda clean, noise, step: clean + noise * (6 - step))
    new = torch.full((8, 1, 1, 1), -1.0)
    assert hold(new, 2).flatten().tolist() == [400, 401, -1, -1, -1, -1, 406, 407]
    assert hold(new, 3).flatten().tolist() == [300, -1, -1, -1, -1, -1, -1, 307]
    assert hold(new, 6).flatten().tolist() == [0, -1, -1, -1, -1, -1, -1, 7]
