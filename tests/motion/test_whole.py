"""The motion module as it runs on a GPU, whole instead of in tiles, on this machine's CPU."""
from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import settings as budget
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from test_packed import plainly, transformer, truth

from animatediff.motion import precision
from animatediff.motion import transformer as running
from animatediff.motion.side_by_side import side_by_side

EXACT = {torch.float32: 2e-6, torch.bfloat16: 2e-2, torch.float16: 3e-3}


def whole(site, *given):
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(running, "TILED", ())
        return site(*given)


def laid_out(x, memory):
    """x [n c h w] as it lies in memory: "as it is", channels "last", or "turned" by a quarter."""
    if memory == "last":
        return x.to(memory_format=torch.channels_last)
    return x.transpose(2, 3).contiguous().transpose(2, 3) if memory == "turned" else x


def steering(kind, frames, height, width):
    """Scale and effect: 0 for none, 1 for scales and 2 for effects of each place, 3 for both."""
    scale = torch.rand(frames, height, width) * 2 if kind & 1 else 0.7 if kind else 1.0
    return scale, torch.rand(frames, height, width) if kind & 2 else 1.0


def layer_by_layer(site, *given):
    """As it learns: each layer by itself."""
    with pytest.MonkeyPatch.context() as patch, torch.enable_grad():
        patch.setattr(running, "TILED", ())
        return site(*given).detach()


@budget(max_examples=40, deadline=None)
@given(st.sampled_from([64, 96, 160]), st.integers(1, 24), st.integers(1, 3), st.integers(1, 9), st.integers(1, 9),
       st.sampled_from(list(EXACT)), st.booleans(), st.integers(0, 3), st.sampled_from(["as it is", "last", "turned"]))
def test_it_is_the_plain_transformer(channels, frames, clips, height, width, dtype, over_frames, steered, memory):
    """No further from the truth than layer by layer, and equal to that within 1e-5 in fp32."""
    site = transformer(channels, dtype, over_frames)
    x = torch.randn(clips * frames, channels, height, width).to(dtype)
    x, (scale, effect) = laid_out(x, memory), steering(steered, frames, height, width)
    before = x.clone()
    found, plain = (run(site, x, frames, scale, effect) for run in (whole, layer_by_layer))
    exact = truth(site, x, frames, scale, effect)
    assert torch.equal(x, before) and found.dtype == dtype and found.shape == x.shape
    far = (plain.double() - exact).abs().max().item()
    assert (found.double() - exact).abs().max().item() <= 1.5 * far + EXACT[dtype] * exact.abs().max().item() / 2
    if dtype == torch.float32:
        torch.testing.assert_close(found, plain, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 64, 3, 1), (1, 1, 1, 1)])
def test_an_expanded_input(shape):
    """Frames that are one and the same in memory, or all of them one number, which leaves the sum's layout open."""
    site, x = transformer(), torch.randn(shape).expand(8, 64, 3, 4)
    torch.testing.assert_close(whole(site, x, 4), plainly(site, x.contiguous(), 4), rtol=1e-5, atol=1e-5)


def qkv(site):
    attention = site.transformer_blocks[0].attention_blocks[0]
    return attention.to_q, attention.to_k, attention.to_v


def lie_side_by_side(weights):
    return len({each.untyped_storage().data_ptr() for each in weights}) == 1


def test_weights_side_by_side_are_the_same_and_take_no_memory_twice(tmp_path):
    site, x = transformer(), torch.randn(8, 64, 3, 3)
    layers, before = qkv(site), {name: value.clone() for name, value in site.state_dict().items()}
    parameters = [layer.weight for layer in layers]
    expected = whole(site, x, 4)
    assert lie_side_by_side(parameters) and all(layer.weight is was for layer, was in zip(layers, parameters))
    assert parameters[0].untyped_storage().nbytes() == sum(each.nbytes for each in parameters)
    after = site.state_dict()
    assert after.keys() == before.keys() and all(torch.equal(after[name], value) for name, value in before.items())
    places = [each.data_ptr() for each in parameters]
    assert torch.equal(whole(site, x, 4), expected) and places == [each.data_ptr() for each in parameters]
    assert torch.equal(whole(copy.deepcopy(site), x, 4), expected)
    save_file(site.state_dict(), tmp_path / "site.safetensors")
    assert all(torch.equal(value, before[name]) for name, value in load_file(tmp_path / "site.safetensors").items())


@pytest.mark.parametrize("change", ["written", "exchanged", "moved", "hooked", "another forward"])
def test_what_becomes_of_a_layer_counts(change):
    site, x = transformer(), torch.randn(8, 64, 3, 3)
    before, layer = whole(site, x, 4), qkv(site)[1]
    if change == "written":
        with torch.no_grad():
            layer.weight.mul_(3)
    elif change == "exchanged":
        layer.weight = torch.nn.Parameter(layer.weight * 3, requires_grad=False)
    elif change == "moved":
        site.double().float()
        assert not lie_side_by_side([each.weight for each in qkv(site)])
    elif change == "hooked":
        layer.register_forward_hook(lambda layer, args, out: out * 3)
    else:
        layer.forward = lambda x: torch.nn.functional.linear(x, layer.weight) * 3
    after = whole(site, x, 4)
    assert torch.equal(after, before) == (change == "moved")
    torch.testing.assert_close(after, plainly(site, x, 4), rtol=1e-5, atol=1e-5)
    if change == "exchanged":
        assert lie_side_by_side([each.weight for each in qkv(site)])


@pytest.mark.parametrize("change", ["hooked", "another forward"])
def test_someone_at_the_gate_is_heard(change):
    site, x = transformer(), torch.randn(8, 64, 3, 3)
    layer, before = site.transformer_blocks[0].ff.net[0].proj, whole(site, x, 4)
    if change == "hooked":
        layer.register_forward_hook(lambda layer, args, out: out * 3)
    else:
        layer.forward = lambda x: torch.nn.functional.linear(x, layer.weight, layer.bias) * 3
    after = whole(site, x, 4)
    assert not torch.allclose(after, before)
    torch.testing.assert_close(after, plainly(site, x, 4), rtol=1e-5, atol=1e-5)


def test_inference_mode():
    """Weights that were made in it, and others that are used in it and learn afterwards."""
    x = torch.randn(8, 64, 3, 3)
    with torch.inference_mode():
        made_here = transformer()
        torch.testing.assert_close(whole(made_here, x, 4), plainly(made_here, x, 4), rtol=1e-5, atol=1e-5)
    site = transformer()
    with torch.inference_mode(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "TILED", ())
        site(x, 4)
    assert not any(weight.is_inference() for weight in site.parameters())
    site.requires_grad_(True)(x, 4).sum().backward()
    assert all(layer.weight.grad is not None for layer in qkv(site))


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("dtype, of_x", [(torch.float16, torch.float16), (torch.float32, torch.float32),
                                         (torch.float16, torch.float32)])
def test_a_hosts_autocast_changes_nothing(dtype, of_x):
    """The WebUI samples in torch.autocast, where norms would be taken of a copy in fp32, and products in bf16."""
    site, x = transformer(dtype=dtype), torch.randn(8, 64, 3, 3).to(of_x)
    with torch.no_grad():
        expected = site(x, 4)
        with torch.autocast("cpu", torch.bfloat16):
            found = site(x, 4)
            assert torch.get_autocast_dtype("cpu") == (x.new_ones(1, 1) @ x.new_ones(1, 1)).dtype  # it goes on behind
    assert found.dtype == of_x and torch.equal(found, expected)


def test_weights_of_other_layouts():
    """Turned in memory, or parts of something larger, they are copied once."""
    turned, wide = [torch.randn(4, 8).t() for _ in range(3)], torch.randn(8, 12)
    turned_in_one = list(torch.randn(3, 4, 8).transpose(1, 2))
    of_three = [torch.randn(24, 4)[8 * place : 8 * place + 8] for place in range(3)]
    for weights in (turned, turned_in_one, of_three, list(wide.split(4, 1)), list(torch.randn(9, 8, 4)[::2])):
        expected = torch.cat(weights)
        assert torch.equal(side_by_side(weights), expected) and torch.equal(torch.cat(weights), expected)
        assert lie_side_by_side(weights) and torch.equal(side_by_side(weights), expected)


@pytest.mark.parametrize("norm", ["group", "layer"])
@pytest.mark.parametrize("dtype", list(EXACT))
def test_norms_are_widened_where_the_kernel_does_not_keep_fp32(norm, dtype, monkeypatch):
    """CPU kernels do; of tensors without values nothing can be told."""
    x = torch.randn(2, 64, 8).to(dtype)
    precision.forget_trials()
    with torch.autocast("cpu", torch.bfloat16):  # which would have norms in fp32
        assert precision.for_norm(x, norm) is x
    assert precision.for_norm(x.to("meta"), norm).dtype == torch.float32
    plain = getattr(F, f"{norm}_norm")
    monkeypatch.setattr(F, f"{norm}_norm", lambda x, *given: plain(x, *given) + 0.1)  # as from a rounded mean
    precision.forget_trials()
    try:
        assert precision.for_norm(x, norm).dtype == torch.float32
    finally:
        precision.forget_trials()
