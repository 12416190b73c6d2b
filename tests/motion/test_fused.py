"""The Triton kernels against the plain layers and float64, on a CUDA device or in Triton's interpreter."""
from __future__ import annotations

import os
import sys

import pytest
import torch
from hypothesis import example, given
from hypothesis import settings as budget
from hypothesis import strategies as st
from slow_cases import slow
from test_packed import float64_result, transformer
from test_whole import laid_out, steering, with_gradients

from animatediff.layout import Views
from animatediff.motion import choice
from animatediff.motion import transformer as running
from animatediff.motion.in_windows import InWindows

pytest.importorskip("triton")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
EXACT = ({torch.bfloat16: 2e-2, torch.float16: 3e-3} if DEVICE == "cuda"
         else {torch.float32: 2e-6, torch.float16: 3e-3})  # no bf16: the interpreter multiplies it as integers


@pytest.fixture(autouse=True, scope="module")
def on_this_device():
    """Use the kernels on this device. The interpreter also runs fp32, which shows errors that half precision hides."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choice, "DEVICES", (DEVICE,))
        patch.setattr(choice, "DTYPES", choice.DTYPES | ({torch.float32: 1e-4} if DEVICE == "cpu" else {}))
        patch.setattr(running, "TILED", ())
        choice.forget_trials()
        yield
        choice.forget_trials()


def run(site, x, *given):
    with torch.no_grad():
        found = site(x, *given)
    assert site.fused is not None
    return found


# The interpreter takes seconds per case, so without RUN_SLOW mainly these examples run. They cover channels and frames
# that are not powers of two, sizes of 1, all memory layouts, norms over frames, and scales as numbers and maps.
@budget(max_examples=12 if DEVICE == "cuda" or os.environ.get("RUN_SLOW") else 1, deadline=None)
@example(96, 3, 2, 2, 3, torch.float16, True, 3, "turned")
@example(64, 5, 1, 3, 2, torch.float16, False, 2, "last")
@example(64, 1, 1, 1, 1, torch.float16, False, 0, "as it is")
@given(st.sampled_from([64, 96, 128]), st.integers(1, 7) if DEVICE == "cpu" else st.sampled_from([1, 2, 5, 16, 24]),
       st.integers(1, 2), st.integers(1, 7), st.integers(1, 7),
       st.sampled_from(list(EXACT)), st.booleans(), st.integers(0, 3), st.sampled_from(["as it is", "last", "turned"]))
def test_agrees_with_the_plain_transformer(channels, frames, clips, height, width, dtype, over_frames, steered, memory):
    site = transformer(channels, dtype, over_frames).to(DEVICE)
    x = torch.randn(clips * frames, channels, height, width).to(DEVICE, dtype)
    x, (scale, effect) = laid_out(x, memory), steering(steered, frames, height, width)
    before = x.clone()
    found, plain = run(site, x, frames, scale, effect), with_gradients(site, x, frames, scale, effect)
    exact = float64_result(site.cpu(), x.cpu(), frames, scale, effect)
    assert torch.equal(x, before) and found.dtype == dtype and found.shape == x.shape
    plain_error = (plain.double().cpu() - exact).abs().max().item()
    error = (found.double().cpu() - exact).abs().max().item()
    assert error <= 1.5 * plain_error + EXACT[dtype] * exact.abs().max().item() / 2


HALF = torch.float16


@pytest.mark.parametrize("over_frames", [False, True])
@pytest.mark.slow
def test_windows(over_frames):
    """With views, attention and a GroupNorm over frames run window by window."""
    site, x = transformer(64, HALF, over_frames).to(DEVICE), torch.randn(2 * 6, 64, 2, 3).to(DEVICE, HALF)
    views = Views(((0, 1, 2, 3), (3, 4, 5, 0)), ((0.25, 1, 1, 0.5), (0.5, 1, 1, 0.75)))
    scale = torch.rand(6, 2, 3) + 0.5
    found = run(site, x, 6, scale, 0.8, InWindows(views, tuple(range(6)), x))
    exact = float64_result(site.cpu(), x.cpu(), 6, scale, 0.8, InWindows(views, tuple(range(6)), x.cpu()))
    assert (found.double().cpu() - exact).abs().max() <= EXACT[HALF] * exact.abs().max()


@pytest.mark.slow
def test_a_few_positions_at_a_time():
    """The parts of 5 positions do not divide the 12 positions evenly."""
    site, x = transformer(64, HALF).to(DEVICE), torch.randn(2 * 4, 64, 3, 4).to(DEVICE, HALF)
    steer = torch.rand(4, 3, 4) + 0.5, torch.rand(4, 3, 4)
    whole = run(site, x, 4, *steer)
    site.most_positions = 10
    torch.testing.assert_close(run(site, x, 4, *steer), whole, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("of_x", [torch.float32, torch.bfloat16])
@pytest.mark.slow
def test_input_in_another_precision(of_x):
    site, x = transformer(64, HALF).to(DEVICE), torch.randn(4, 64, 2, 2).to(DEVICE, of_x)
    found = run(site, x, 4)
    exact = float64_result(site.cpu(), x.cpu(), 4)
    assert found.dtype == of_x and (found.double().cpu() - exact).abs().max() <= 2e-2 * exact.abs().max()


@pytest.mark.parametrize("change", ["written", slow("exchanged"), slow("hooked"), slow("another forward")])
@pytest.mark.slow
def test_changes_of_a_layer_take_effect(change):
    site, x = transformer(64, HALF).to(DEVICE), torch.randn(4, 64, 2, 2).to(DEVICE, HALF)
    before, layer = run(site, x, 4), site.transformer_blocks[0].attention_blocks[0].to_out[0]
    with torch.no_grad():
        if change == "written":
            layer.bias.add_(1)
        elif change == "exchanged":
            layer.bias = torch.nn.Parameter(layer.bias + 1, requires_grad=False)
        elif change == "hooked":
            layer.register_forward_hook(lambda layer, args, out: out + 1)
        else:
            layer.forward = lambda x: torch.nn.functional.linear(x, layer.weight, layer.bias) + 1
        after = site(x, 4)
        assert (site.fused is None) == (change in ("hooked", "another forward"))
        torch.testing.assert_close(after, site.plainly(x, 4), rtol=5e-3, atol=5e-3)
    assert not torch.allclose(after, before, rtol=5e-3, atol=5e-3)


@pytest.fixture
def fresh_trials():
    choice.forget_trials()
    yield
    choice.forget_trials()


@pytest.mark.usefixtures("fresh_trials")
@pytest.mark.parametrize("fault", ["no Triton", "wrong", "no number", "cannot run"])
def test_failing_kernels_are_not_used(fault, monkeypatch):
    """The plain layers are used, and the kernels are tried only once for each kind of call."""
    from animatediff.motion import fused

    site, x = transformer(64, HALF).to(DEVICE), torch.randn(4, 64, 2, 2).to(DEVICE, HALF)
    calls, works = [], fused.FusedTransformer.__call__

    def faulty(self, x, *given, **named):
        calls.append(1)
        if fault == "cannot run":
            raise RuntimeError("PTX was compiled with an unsupported toolchain")
        return works(self, x, *given, **named) * (1.05 if fault == "wrong" else float("nan"))

    if fault == "no Triton":
        monkeypatch.setitem(sys.modules, "animatediff.motion.fused", None)
    else:
        monkeypatch.setattr(fused.FusedTransformer, "__call__", faulty)
    with torch.no_grad():
        for _ in range(2):
            assert torch.equal(site(x, 4), site.plainly(x, 4)) and site.fused is None
    assert len(calls) == (0 if fault == "no Triton" else 1)


@pytest.mark.slow
@pytest.mark.usefixtures("fresh_trials")
@pytest.mark.parametrize("where", ["what comes in", "the weights"])
def test_nan_and_infinity_do_not_disable_the_kernels(where):
    site, x = transformer(64, HALF).to(DEVICE), torch.randn(4, 64, 2, 2).to(DEVICE, HALF)
    spoilt, sick = x.clone(), transformer(64, HALF).to(DEVICE)
    with torch.no_grad():
        if where == "what comes in":
            spoilt[0, 0, 0, 0] = float("inf")
            assert not site(spoilt, 4).isfinite().all()
        else:
            sick.proj_out.weight[0, 0] = float("nan")
            assert not sick(x, 4).isfinite().all() and sick.fused is None
    run(site, x, 4)


@pytest.mark.usefixtures("fresh_trials")
@pytest.mark.slow
def test_a_trial_does_not_use_the_global_random_generator():
    site, x = transformer(64, HALF).to(DEVICE), torch.randn(4, 64, 2, 2).to(DEVICE, HALF)
    before = torch.get_rng_state()
    run(site, x, 4)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.slow
def test_numbers_whose_squares_overflow_half_precision():
    """Statistics are in fp32, and the variance is taken of deviations from the mean."""
    site = transformer(64, HALF).to(DEVICE)
    x = (torch.randn(6, 64, 4, 4) * 1e3 + 2e4).to(DEVICE, HALF)
    found, exact = run(site, x, 3), float64_result(site.cpu(), x.cpu(), 3)
    assert (found.double().cpu() - exact).abs().max() <= 1e-3 * exact.abs().max()


@pytest.mark.slow
@pytest.mark.usefixtures("fresh_trials")
def test_out_of_memory_does_not_disable_the_kernels(monkeypatch):
    from animatediff.motion import fused

    site, x = transformer(64, HALF).to(DEVICE), torch.randn(4, 64, 2, 2).to(DEVICE, HALF)

    def short(self, *given, **named):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patch, torch.no_grad():
        patch.setattr(fused.FusedTransformer, "__call__", short)
        with pytest.raises(torch.cuda.OutOfMemoryError):
            site(x, 4)
    run(site, x, 4)
