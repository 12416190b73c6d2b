"""oneDNN's fused products on a CPU against the plain layers."""
from __future__ import annotations

import copy
import gc
import os

import pytest
import torch
from hypothesis import given
from hypothesis import settings as budget
from hypothesis import strategies as st

from animatediff.motion import FAMILIES, packed
from animatediff.motion import transformer as running
from animatediff.motion.transformer import TemporalTransformer

IS_FASTER = packed.is_faster
pytestmark = pytest.mark.skipif(not packed.works(torch.float32),
                                reason="torch lacks the operators on this machine")


@pytest.fixture(autouse=True, scope="module")
def on_any_processor():
    """Test the operators wherever they work, even if they are not faster there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed, "is_faster", lambda: True)
        yield


EXACT = {torch.float32: 2e-6, torch.bfloat16: 2e-2}


def transformer(channels=64, dtype=torch.float32, over_frames=False):
    torch.manual_seed(channels)
    site = TemporalTransformer(channels, 8, 24, True, over_frames).eval().requires_grad_(False).to(dtype)
    for norm in (each for each in site.modules() if isinstance(each, (torch.nn.LayerNorm, torch.nn.GroupNorm))):
        norm.weight.normal_(1, 0.3)
        norm.bias.normal_(0, 0.3)
    return site


def plain_result(site, *given):
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(running, "packed", lambda *_: None)
        return site(*given)


def float64_result(site, *given):
    """Return the result of the plain layers in float64."""
    return plain_result(copy.deepcopy(site).double(),
                   *(each.double() if isinstance(each, torch.Tensor) else each for each in given))


@budget(max_examples=40, deadline=None)
@given(st.sampled_from([64, 96, 160]), st.integers(1, 24), st.integers(1, 3), st.integers(1, 9), st.integers(1, 9),
       st.sampled_from([torch.float32, torch.bfloat16]), st.booleans(), st.integers(0, 3), st.booleans())
def test_agrees_with_the_plain_layers(channels, frames, clips, height, width, dtype, over_frames, steered, contiguous):
    """The error is not much larger than that of the plain layers, and in fp32 both agree within 1e-5."""
    site = transformer(channels, dtype, over_frames)
    x = torch.randn(clips * frames, channels, height, width).to(dtype)
    if not contiguous:
        x = x.to(memory_format=torch.channels_last) if steered % 2 else x.transpose(2, 3).contiguous().transpose(2, 3)
    scale = torch.rand(frames, height, width) * 2 if steered & 1 else 0.7 if steered else 1.0
    effect = torch.rand(frames, height, width) if steered & 2 else 1.0
    with torch.no_grad():
        found = site(x, frames, scale, effect)
    assert isinstance(site.packed, packed.PackedTransformer) == packed.works(dtype)  # bf16 needs AVX-512
    assert found.dtype == dtype
    plain, exact = plain_result(site, x, frames, scale, effect), float64_result(site, x, frames, scale, effect)
    plain_error = (plain.double() - exact).abs().max().item()
    error = (found.double() - exact).abs().max().item()
    assert error <= 1.5 * plain_error + EXACT[dtype] * exact.abs().max().item() / 2
    torch.testing.assert_close(found.float(), plain.float(), rtol=1e-5 if dtype == torch.float32 else 2e-2,
                               atol=1e-5 if dtype == torch.float32 else 5e-2)


@pytest.mark.parametrize("family", [name for name in FAMILIES if "HotShot" not in name][:4])
def test_every_module_uses_it(family, make_module):
    for site in make_module(family).sites().values():
        c = site.temporal_transformer.norm.num_channels
        x = torch.randn(4, c, 3, 3)
        with torch.no_grad():
            found = site(x, 4)
        assert site.temporal_transformer.packed
        torch.testing.assert_close(found, plain_result(site, x, 4), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("change", ["written", "exchanged", "exchanged where it was", "moved to another dtype"])
def test_changed_weights_take_effect(change):
    site, x = transformer(), torch.randn(4, 64, 2, 2)
    with torch.no_grad():
        before = site(x, 4)
        kept = site.packed
        assert torch.equal(site(x, 4), before) and site.packed is kept
        layer = site.transformer_blocks[0].attention_blocks[1].to_v
        if change == "written":
            layer.weight.mul_(3)
        elif change == "moved to another dtype":
            site.bfloat16().float()
        else:
            place, old = layer.weight.data_ptr(), layer.weight
            layer.weight = torch.nn.Parameter(old * 3, requires_grad=False)
            if change == "exchanged where it was":
                layer.weight.data = old.data.mul_(3)
                while layer.weight._version < old._version:
                    layer.weight.mul_(1)
                assert (layer.weight.data_ptr(), layer.weight._version) == (place, old._version)
            del old
            gc.collect()
        after = site(x, 4)
    assert site.packed is not kept and not torch.equal(after, before)
    torch.testing.assert_close(after, plain_result(site, x, 4), rtol=1e-5, atol=1e-5)


def test_hooks_and_gradients_use_the_plain_layers():
    site, x = transformer(), torch.randn(4, 64, 2, 2)
    seen = []
    handle = site.transformer_blocks[0].attention_blocks[0].to_q.register_forward_hook(lambda *_: seen.append(1))
    with torch.no_grad():
        site(x, 4)
        assert seen and site.packed is None
        handle.remove()
        site(x, 4)
        assert len(seen) == 1 and site.packed
    site.requires_grad_(True)(x, 4).sum().backward()
    assert site.proj_in.weight.grad is not None


def test_inference_mode():
    with torch.inference_mode():
        site, x = transformer(), torch.randn(4, 64, 2, 2)
        torch.testing.assert_close(site(x, 4), plain_result(site, x, 4), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("instructions, faster", [("AVX512", True), ("AVX2", False), ("DEFAULT", False)])
def test_it_is_used_if_it_is_faster(instructions, faster, monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: instructions)
    monkeypatch.setattr(packed, "is_faster", IS_FASTER)
    site = transformer()
    with torch.no_grad():
        site(torch.randn(4, 64, 2, 2), 4)
    assert (site.packed is not None) == faster


@pytest.mark.parametrize("broken", ["missing", "raises", "wrong"])
def test_missing_or_wrong_operators_use_the_plain_layers(broken, monkeypatch):
    class Broken(packed.Packed):
        def __init__(self, *given):
            if broken == "missing":
                raise AttributeError("no such operator")
            super().__init__(*given)

        def gelu(self, x):
            if broken == "raises":
                raise NotImplementedError
            return super().gelu(x) * 1.01

    monkeypatch.setattr(packed, "Packed", Broken)
    packed.works.cache_clear()
    try:
        site, x = transformer(), torch.randn(4, 64, 2, 2)
        with torch.no_grad():
            assert torch.equal(site(x, 4), plain_result(site, x, 4)) and site.packed is None
    finally:
        packed.works.cache_clear()


def test_bf16_works_if_onednn_supports_it():
    assert packed.works(torch.bfloat16) == torch.ops.mkldnn._is_mkldnn_bf16_supported()


def test_it_can_be_copied_and_saved(tmp_path):
    site, x = transformer(), torch.randn(4, 64, 2, 2)
    keys = list(site.state_dict())
    with torch.no_grad():
        expected = site(x, 4)
        assert torch.equal(copy.deepcopy(site)(x, 4), expected)
        torch.save(site, tmp_path / "site")
        assert torch.equal(torch.load(tmp_path / "site", weights_only=False)(x, 4), expected)
    assert list(site.state_dict()) == keys and os.path.getsize(tmp_path / "site") < 1.2 * sum(
        each.nbytes for each in site.state_dict().values()) + 50_000
