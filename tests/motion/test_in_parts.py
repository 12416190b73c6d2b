"""Self-attention and feed-forward row by row: the same numbers, in both layouts, and nothing left of it."""
from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from animatediff.layout import ClipLayout
from animatediff.motion import in_parts as parts
from animatediff.motion import injected
from animatediff.motion.in_parts import in_parts


def forwards(unet):
    return [name for name, part in unet.named_modules() if "forward" in vars(part)]


def test_one_row_at_a_time_gives_the_same_result(host, inputs):
    x, text = inputs(6)
    expected, seen = host(x, text), []
    inner = [part for name, part in host.unet.named_modules() if name.endswith((".attn1.to_q", ".ff.net.0.proj"))]
    handles = [part.register_forward_pre_hook(lambda part, args: seen.append(len(args[0]))) for part in inner]
    with in_parts(host.unet, None):
        found = host(x, text)
    for handle in handles:
        handle.remove()
    assert seen == [1] * len(x) * len(inner) and inner
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(host(x, text), expected) and not forwards(host.unet)


@pytest.mark.parametrize("layout", ["diffusers", "ldm"])
def test_with_a_motion_module(layout, make_host, inputs, make_module, clips_of):
    host, module = make_host(layout, "SD1.5"), make_module("v2")
    x, text = inputs(8)
    with injected(host.unet, module, clips_of(4)):
        expected = host(x, text)
        with pytest.raises(KeyboardInterrupt), in_parts(host.unet, module):
            torch.testing.assert_close(host(x, text), expected, rtol=1e-5, atol=1e-5)
            raise KeyboardInterrupt
        assert torch.equal(host(x, text), expected)
    assert not forwards(host.unet)
    assert not any("most_positions" in vars(part) for part in module.modules())


@settings(deadline=None, max_examples=6, suppress_health_check=list(HealthCheck))
@given(family=st.sampled_from(["v1", "v2", "v3"]), frames=st.integers(1, 5), clips=st.integers(1, 3),
       height=st.sampled_from([8, 9, 11]), width=st.sampled_from([8, 13]), positions=st.integers(1, 40),
       dtype=st.sampled_from([torch.float64, torch.bfloat16]), contiguous=st.booleans())
@pytest.mark.usefixtures("tiling")
def test_any_clips(make_host, inputs, make_module, monkeypatch, family, frames, clips, height, width, positions, dtype,
                   contiguous):
    """Cases include odd sizes, one frame, one row, and 8x8, whose innermost level has one position."""
    host, module = make_host("diffusers", "SD1.5"), make_module(family).to(dtype)
    host.unet.to(dtype)
    monkeypatch.setattr(parts, "POSITIONS", positions)
    x, text = torch.randn(clips * frames, 4, height, width).to(dtype), inputs(clips * frames)[1].to(dtype)
    x = x if contiguous else x.to(memory_format=torch.channels_last)
    with injected(host.unet, module, lambda rows: ClipLayout.contiguous(frames, rows // frames)):
        expected = host(x, text)
        with in_parts(host.unet, module):
            found = host(x, text)
    # In float64: at 8x8 the innermost GroupNorms have two values per group, which amplify rounding a hundredfold.
    tight = 5e-2 if dtype is torch.bfloat16 else 1e-9
    assert (found.double() - expected.double()).abs().max() <= tight * max(1.0, expected.double().abs().max())


def test_a_forward_of_other_code_is_kept(make_host, inputs):
    host = make_host("diffusers", "SD1.5")
    part = next(part for name, part in host.unet.named_modules() if name.endswith("attn1"))
    plain, rows = part.forward, []
    part.forward = theirs = lambda x, *args, **kwargs: rows.append(len(x)) or plain(x, *args, **kwargs)
    with in_parts(host.unet, None):
        host(*inputs(3))
    assert part.forward is theirs and rows == [1, 1, 1]
