"""Rows of a UNet call, against batches built by hand from the host's documented order."""
from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from animatediff.hosts.shared.cfg_rows import Rows, equal_lengths, take


def host_batch(parts: list[int], negatives: int) -> list[tuple[int, str]]:
    """Return (frame, role) of every row: the positive parts frame by frame, then each set of negatives frame by frame.
    """
    rows = [(frame, f"part {k}") for frame, n in enumerate(parts) for k in range(n)]
    return rows + [(frame, f"negative {k}") for k in range(negatives) for frame in range(len(parts))]


@given(st.lists(st.integers(1, 4), min_size=1, max_size=12), st.integers(0, 2))
def test_every_row_is_found_by_its_frame_and_role(parts, negatives):
    batch = host_batch(parts, negatives)
    rows = Rows.of_call(parts, len(batch))
    seen = set()
    for frame in range(len(parts)):
        for role in range(rows.roles):
            row = int(rows.table[frame, role])
            name = f"part {role}" if role < max(parts) else f"negative {role - max(parts)}"
            if rows.own[frame, role]:
                assert batch[row] == (frame, name)
                seen.add(row)
            else:  # the frame's last part replaces the missing one
                assert batch[row] == (frame, f"part {parts[frame] - 1}")
    assert seen == set(range(len(batch)))


@given(st.lists(st.integers(1, 3), min_size=1, max_size=9), st.integers(0, 2))
def test_there_and_back(parts, negatives):
    n = sum(parts) + negatives * len(parts)
    x = torch.arange(n * 2.0).view(n, 2, 1, 1)
    rows = Rows.of_call(parts, n)
    assert rows.by_frame(x).shape == (len(parts), 2 * rows.roles, 1, 1)
    assert torch.equal(rows.by_row(rows.by_frame(x)), x)


@pytest.mark.parametrize("rows", [3, 5, 7, 9, 17])
def test_a_batch_that_is_not_the_clips_is_refused(rows):
    with pytest.raises(ValueError, match=f"{rows} rows"):
        Rows.of_call([1, 1, 1, 1], rows)


def test_take_reaches_into_the_hosts_conditioning_and_leaves_the_rest():
    class Shaped(dict):
        """Imitates the host's dict with a shape."""

    x, other = torch.arange(6.0)[:, None], torch.zeros(2, 3)
    cond = {"c_crossattn": [Shaped(crossattn=x, vector=x * 2)], "c_concat": [x + 100], "fixed": other, "flag": "on"}
    got = take(cond, torch.tensor([4, 1]), 6)
    assert got["c_crossattn"][0]["crossattn"].flatten().tolist() == [4, 1]
    assert type(got["c_crossattn"][0]) is Shaped and got["c_crossattn"][0]["vector"].flatten().tolist() == [8, 2]
    assert got["c_concat"][0].flatten().tolist() == [104, 101]
    assert got["fixed"] is other and got["flag"] == "on"


@pytest.mark.parametrize(("positive", "negative"), [(77, 77), (77, 231), (154, 77), (78, 155)])
def test_equal_lengths_adds_empty_prompts_behind_the_shorter(positive, negative):
    empty = torch.full((1, 77, 4), 7.0)
    cond, uncond = torch.ones(3, positive, 4), torch.zeros(3, negative, 4)
    a, b = equal_lengths(cond, {"crossattn": uncond, "vector": torch.ones(3, 5)}, lambda: empty)
    b = b["crossattn"]
    assert a.shape == b.shape == (3, max(positive, negative), 4)
    assert torch.equal(a[:, :positive], cond) and torch.equal(b[:, :negative], uncond)
    assert (a[:, positive:] == 7).all() and (b[:, negative:] == 7).all()
