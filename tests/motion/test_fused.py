"""The GPU's Triton kernels against the plain layers and float64: on a CUDA device, or by Triton's interpreter."""
from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import settings as budget
from hypothesis import strategies as st
from test_packed import transformer, truth
from test_whole import layer_by_layer

from animatediff.motion import choice, network

pytest.importorskip("triton")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
EXACT = ({torch.bfloat16: 2e-2, torch.float16: 3e-3} if DEVICE == "cuda"
         else {torch.float32: 2e-6, torch.float16: 3e-3})  # the interpreter multiplies bf16 as integers


@pytest.fixture(autouse=True, scope="module")
def on_this_device():
    """The interpreter takes fp32, too, in which a slip shows that halves hide."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choice, "DEVICES", (DEVICE,))
        patch.setattr(choice, "DTYPES", choice.DTYPES | ({torch.float32: 1e-4} if DEVICE == "cpu" else {}))
        patch.setattr(network, "TILED", ())
        choice.forget_trials()
        yield
        choice.forget_trials()


def run(site, x, *given):
    with torch.no_grad():
        found = site(x, *given)
    assert site._fused is not None
    return found


@budget(max_examples=12, deadline=None)
@given(st.sampled_from([64, 96, 128]), st.integers(1, 7) if DEVICE == "cpu" else st.sampled_from([1, 2, 5, 16, 24]), st.integers(1, 2),
       st.integers(1, 7), st.integers(1, 7), st.sampled_from(list(EXACT)), st.booleans(), st.integers(0, 3), st.sampled_from(["as it is", "last", "turned"]))
def test_it_is_the_plain_transformer(channels, frames, clips, height, width, dtype, over_frames, steered, memory):
    site = transformer(channels, dtype, over_frames).to(DEVICE)
    x = torch.randn(clips * frames, channels, height, width).to(DEVICE, dtype)
    if memory == "last":
        x = x.to(memory_format=torch.channels_last)
    elif memory == "turned":
        x = x.transpose(2, 3).contiguous().transpose(2, 3)
    scale = torch.rand(frames, height, width) * 2 if steered & 1 else 0.7 if steered else 1.0
    effect = torch.rand(frames, height, width) if steered & 2 else 1.0
    before = x.clone()
    found, plain = run(site, x, frames, scale, effect), layer_by_layer(site, x, frames, scale, effect)
    exact = truth(site.cpu(), x.cpu(), frames, scale, effect)
    assert torch.equal(x, before) and found.dtype == dtype and found.shape == x.shape
    far = (plain.double().cpu() - exact).abs().max().item()
    assert (found.double().cpu() - exact).abs().max().item() <= 1.5 * far + EXACT[dtype] * exact.abs().max().item() / 2
