"""The motion module run whole, as on a GPU, instead of in tiles; these tests run it on the CPU."""
from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import settings as budget
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from test_packed import float64_result, plain_result, transformer

from animatediff.motion import precision
from animatediff.motion import transformer as running
from animatediff.motion.side_by_side import side_by_side

EXACT = {torch.float32: 2e-6, torch.bfloat16: 2e-2, torch.float16: 3e-3}


def whole(site, *given):
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(running, "TILED", ())
        return site(*given)


def laid_out(x, memory):
    """Return x [n c h w] in a memory layout: "as it is", channels "last", or "turned" (height and width swapped)."""
    if memory == "last":
        return x.to(memory_format=torch.channels_last)
    return x.transpose(2, 3).contiguous().transpose(2, 3) if memory == "turned" else x


def steering(kind, frames, height, width):
    """Return scale and effect. kind: 0 for none, 1 for a map of scales, 2 for a map of effects, 3 for both."""
    scale = torch.rand(frames, height, width) * 2 if kind & 1 else 0.7 if kind else 1.0
    return scale, torch.rand(frames, height, width) if kind & 2 else 1.0


def with_gradients(site, *given):
    """Return the result with gradients on, which computes each layer separately."""
    with pytest.MonkeyPatch.context() as patch, torch.enable_grad():
        patch.setattr(running, "TILED", ())
        return site(*given).detach()


@budget(max_examples=40, deadline=None)
@given(st.sampled_from([64, 96, 160]), st.integers(1, 24), st.integers(1, 3), st.integers(1, 9), st.integers(1, 9),
       st.sampled_from(list(EXACT)), st.booleans(), st.integers(0, 3), st.sampled_from(["as it is", "last", "turned"]))
def test_agrees_with_the_plain_transformer(channels, frames, clips, height, width, dtype, over_frames, steered, memory):
    """The error is not much larger than with separate layers, and in fp32 both agree within 1e-5."""
    site = transformer(channels, dtype, over_frames)
    x = torch.randn(clips * frames, channels, height, width).to(dtype)
    x, (scale, effect) = laid_out(x, memory), steering(steered, frames, height, width)
    before = x.clone()
    found, plain = (run(site, x, frames, scale, effect) for run in (whole, with_gradients))
    exact = float64_result(site, x, frames, scale, effect)
    assert torch.equal(x, before) and found.dtype == dtype and found.shape == x.shape
    plain_error = (plain.double() - exact).abs().max().item()
    error = (found.double() - exact).abs().max().item()
    assert error <= 1.5 * plain_error + EXACT[dtype] * exact.abs().max().item() / 2
    if dtype == torch.float32:
        torch.testing.assert_close(found, plain, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 64, 3, 1), (1, 1, 1, 1)])
def test_an_expanded_input(shape):
    """All frames share memory, or all values do, so that the sum's memory layout is undetermined."""
    site, x = transformer(), torch.randn(shape).expand(8, 64, 3, 4)
    torch.testing.assert_close(whole(site, x, 4), plain_result(site, x.contiguous(), 4), rtol=1e-5, atol=1e-5)


def qkv(site):
    attention = site.transformer_blocks[0].attention_blocks[0]
    return attention.to_q, attention.to_k, attention.to_v


def are_joined(weights):
    return len({each.untyped_storage().data_ptr() for each in weights}) == 1


def test_joined_weights_are_the_same_and_take_no_extra_memory(tmp_path):
    site, x = transformer(), torch.randn(8, 64, 3, 3)
    layers, before = qkv(site), {name: value.clone() for name, value in site.state_dict().items()}
    parameters = [layer.weight for layer in layers]
    expected = whole(site, x, 4)
    assert are_joined(parameters) and all(layer.weight is was for layer, was in zip(layers, parameters))
    assert parameters[0].untyped_storage().nbytes() == sum(each.nbytes for each in parameters)
    after = site.state_dict()
    assert after.keys() == before.keys() and all(torch.equal(after[name], value) for name, value in before.items())
    places = [each.data_ptr() for each in parameters]
    assert torch.equal(whole(site, x, 4), expected) and places == [each.data_ptr() for each in parameters]
    assert torch.equal(whole(copy.deepcopy(site), x, 4), expected)
    save_file(site.state_dict(), tmp_path / "site.safetensors")
    assert all(torch.equal(value, before[name]) for name, value in load_file(tmp_path / "site.safetensors").items())


@pytest.mark.parametrize("change", ["written", "exchanged", "moved", "hooked", "another forward"])
def test_changes_of_a_layer_take_effect(change):
    site, x = transformer(), torch.randn(8, 64, 3, 3)
    before, layer = whole(site, x, 4), qkv(site)[1]
    if change == "written":
        with torch.no_grad():
            layer.weight.mul_(3)
    elif change == "exchanged":
        layer.weight = torch.nn.Parameter(layer.weight * 3, requires_grad=False)
    elif change == "moved":
        site.double().float()
        assert not are_joined([each.weight for each in qkv(site)])
    elif change == "hooked":
        layer.register_forward_hook(lambda layer, args, out: out * 3)
    else:
        layer.forward = lambda x: torch.nn.functional.linear(x, layer.weight) * 3
    after = whole(site, x, 4)
    assert torch.equal(after, before) == (change == "moved")
    torch.testing.assert_close(after, plain_result(site, x, 4), rtol=1e-5, atol=1e-5)
    if change == "exchanged":
        assert are_joined([each.weight for each in qkv(site)])


@pytest.mark.parametrize("change", ["hooked", "another forward"])
def test_changes_of_the_gated_layer_take_effect(change):
    site, x = transformer(), torch.randn(8, 64, 3, 3)
    layer, before = site.transformer_blocks[0].ff.net[0].proj, whole(site, x, 4)
    if change == "hooked":
        layer.register_forward_hook(lambda layer, args, out: out * 3)
    else:
        layer.forward = lambda x: torch.nn.functional.linear(x, layer.weight, layer.bias) * 3
    after = whole(site, x, 4)
    assert not torch.allclose(after, before)
    torch.testing.assert_close(after, plain_result(site, x, 4), rtol=1e-5, atol=1e-5)


def test_inference_mode():
    """Weights created in inference mode work, and weights used in it can be trained afterwards."""
    x = torch.randn(8, 64, 3, 3)
    with torch.inference_mode():
        made_here = transformer()
        torch.testing.assert_close(whole(made_here, x, 4), plain_result(made_here, x, 4), rtol=1e-5, atol=1e-5)
    site = transformer()
    with torch.inference_mode(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "TILED", ())
        site(x, 4)
    assert not any(weight.is_inference() for weight in site.parameters())
    site.requires_grad_(True)(x, 4).sum().backward()
    assert all(layer.weight.grad is not None for layer in qkv(site))


@pytest.mark.usefixtures("tiling")
@pytest.mark.parametrize("dtype, x_dtype", [(torch.float16, torch.float16), (torch.float32, torch.float32),
                                         (torch.float16, torch.float32)])
def test_a_hosts_autocast_changes_nothing(dtype, x_dtype):
    """The WebUI samples in torch.autocast, which would compute norms on a copy in fp32 and products in bf16."""
    site, x = transformer(dtype=dtype), torch.randn(8, 64, 3, 3).to(x_dtype)
    with torch.no_grad():
        expected = site(x, 4)
        with torch.autocast("cpu", torch.bfloat16):
            found = site(x, 4)
            # Autocast is on again after the call.
            assert torch.get_autocast_dtype("cpu") == (x.new_ones(1, 1) @ x.new_ones(1, 1)).dtype
    assert found.dtype == x_dtype and torch.equal(found, expected)


def test_weights_of_other_layouts():
    """Weights that are transposed or views of a larger tensor are copied once."""
    turned, wide = [torch.randn(4, 8).t() for _ in range(3)], torch.randn(8, 12)
    turned_in_one = list(torch.randn(3, 4, 8).transpose(1, 2))
    of_three = [torch.randn(24, 4)[8 * place : 8 * place + 8] for place in range(3)]
    for weights in (turned, turned_in_one, of_three, list(wide.split(4, 1)), list(torch.randn(9, 8, 4)[::2])):
        expected = torch.cat(weights)
        assert torch.equal(side_by_side(weights), expected) and torch.equal(torch.cat(weights), expected)
        assert are_joined(weights) and torch.equal(side_by_side(weights), expected)


@pytest.mark.parametrize("norm", ["group", "layer"])
@pytest.mark.parametrize("dtype", list(EXACT))
def test_norms_use_fp32_if_the_kernel_does_not(norm, dtype, monkeypatch):
    """CPU kernels keep fp32; on the meta device this is unknown, so fp32 is used."""
    x = torch.randn(2, 64, 8).to(dtype)
    precision.forget_trials()
    with torch.autocast("cpu", torch.bfloat16):  # autocast would use fp32 for norms
        assert precision.for_norm(x, norm) is x
    assert precision.for_norm(x.to("meta"), norm).dtype == torch.float32
    plain = getattr(F, f"{norm}_norm")
    monkeypatch.setattr(F, f"{norm}_norm", lambda x, *given: plain(x, *given) + 0.1)  # an error as from a rounded mean
    precision.forget_trials()
    try:
        assert precision.for_norm(x, norm).dtype == torch.float32
    finally:
        precision.forget_trials()
