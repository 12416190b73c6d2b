"""The temporal transformer against a closed form of the reference in float64, and its numerical precision."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from animatediff.motion import FAMILIES, layers, precision, transformer

HEADS = 8


def closed_form(x: np.ndarray, w: dict[str, np.ndarray], over_frames: bool) -> np.ndarray:
    """Return the result of guoyww/AnimateDiff's TemporalTransformer3DModel in float64 for one clip x [f c h w]."""
    f, c, h, wd = x.shape
    groups = x.reshape(f, 32, c // 32, h, wd)
    axes = (0, 2, 3, 4) if over_frames else (2, 3, 4)
    mean, var = groups.mean(axes, keepdims=True), groups.var(axes, keepdims=True)
    normed = ((groups - mean) / np.sqrt(var + 1e-6)).reshape(x.shape)
    normed = normed * w["norm.weight"][:, None, None] + w["norm.bias"][:, None, None]
    tokens = np.einsum("fchw,dc->hwfd", normed, w["proj_in.weight"]) + w["proj_in.bias"]

    def layer_norm(t, name):
        t = (t - t.mean(-1, keepdims=True)) / np.sqrt(t.var(-1, keepdims=True) + 1e-5)
        return t * w[f"{name}.weight"] + w[f"{name}.bias"]

    block = "transformer_blocks.0."
    for i in (0, 1):
        a = f"{block}attention_blocks.{i}."
        source = layer_norm(tokens, f"{block}norms.{i}") + w[f"{a}pos_encoder.pe"][0, :f]
        q, k, v = (
            np.einsum("hwfc,dc->hwfd", source, w[f"{a}to_{n}.weight"]).reshape(h, wd, f, HEADS, c // HEADS)
            for n in "qkv"
        )
        scores = np.einsum("hwfnd,hwgnd->hwnfg", q, k) / np.sqrt(c // HEADS)
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = np.einsum("hwnfg,hwgnd->hwfnd", scores / scores.sum(-1, keepdims=True), v).reshape(h, wd, f, c)
        tokens = tokens + mixed @ w[f"{a}to_out.0.weight"].T + w[f"{a}to_out.0.bias"]
    inner = (
        layer_norm(tokens, f"{block}ff_norm") @ w[f"{block}ff.net.0.proj.weight"].T + w[f"{block}ff.net.0.proj.bias"]
    )
    value, gate = np.split(inner, 2, -1)
    gelu = gate * 0.5 * (1 + np.vectorize(__import__("math").erf)(gate / np.sqrt(2)))
    tokens = tokens + (value * gelu) @ w[f"{block}ff.net.2.weight"].T + w[f"{block}ff.net.2.bias"]
    out = np.einsum("hwfc,dc->fdhw", tokens, w["proj_out.weight"]) + w["proj_out.bias"][:, None, None]
    return x + out


def site_of(module):
    return module.down_blocks[1].motion_modules[0].temporal_transformer


@pytest.mark.usefixtures("tiling")
@pytest.mark.parametrize("name", FAMILIES)
def test_agrees_with_the_reference_in_float64(name, make_module):
    module = make_module(name)
    site = site_of(module)
    weights = {k: v.double().numpy() for k, v in site.state_dict().items()}
    for i in (0, 1):  # AnimateLCM's state dict has none; the reference computes the same values
        pe = site.transformer_blocks[0].attention_blocks[i].pos_encoder.pe
        weights[f"transformer_blocks.0.attention_blocks.{i}.pos_encoder.pe"] = pe.double().numpy()
    clips = torch.randn(2, 6, 64, 3, 5) * torch.linspace(0.3, 3, 6)[:, None, None, None] + 0.5
    with torch.no_grad():
        ours = site(clips.flatten(0, 1), 6).view_as(clips)
    over = name == "AnimateDiff-SDXL"
    for clip, found in zip(clips, ours):
        right = closed_form(clip.double().numpy(), weights, over)
        wrong = closed_form(clip.double().numpy(), weights, not over)
        assert np.abs(found.numpy() - right).max() < 1e-5
        assert np.abs(found.numpy() - wrong).max() > 1e-1  # these frames distinguish the two kinds of norm


def test_positions_are_the_sinusoids_of_the_paper():
    pe = layers.sinusoids(40, 16)[0].double()
    for place, i in ((0, 0), (7, 3), (39, 7)):
        angle = place / 10_000 ** (2 * i / 16)
        assert pe[place, 2 * i].item() == pytest.approx(np.sin(angle), abs=1e-5)
        assert pe[place, 2 * i + 1].item() == pytest.approx(np.cos(angle), abs=1e-5)


@pytest.mark.parametrize("grad_enabled", [False, True])
def test_tiles_give_the_same_result(grad_enabled, make_module, monkeypatch):
    site, x = site_of(make_module("v2")), torch.randn(8, 64, 6, 6)
    monkeypatch.setattr(transformer, "packed", lambda *_: None)
    with torch.set_grad_enabled(grad_enabled):
        monkeypatch.setattr(transformer, "CPU_TILE_TOKENS", 10**9)
        whole = site(x, 4)
        monkeypatch.setattr(transformer, "CPU_TILE_TOKENS", 20)
        monkeypatch.setattr(type(site), "most_positions", 5)
        calls = []
        monkeypatch.setattr(type(site), "on_tokens", lambda self, *given, old=type(site).on_tokens: (
            calls.append(len(given[0])) or old(self, *given)))
        tiled = site(x, 4)
    assert len(calls) > 1 and max(calls) == 5 and sum(calls) == 2 * 6 * 6
    torch.testing.assert_close(tiled, whole, rtol=0, atol=2e-6)


def test_every_weight_gets_a_gradient(make_module):
    module = make_module("v2").requires_grad_(True)
    for site in module.sites().values():
        c = site.temporal_transformer.norm.num_channels
        site(torch.randn(4, c, 2, 2), 4).square().mean().backward()
    dead = [name for name, p in module.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not dead


@pytest.mark.parametrize("over_frames", [False, True])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float16, 4e-3), (torch.bfloat16, 3e-2)])
def test_half_precision_neither_overflows_nor_drifts(over_frames, dtype, tolerance, make_module):
    """Squares of activations of 3e4 are far above fp16's 65504. The reference is fp32 with the same values."""
    site = site_of(make_module(replace(FAMILIES["v2"], module_norm_over_frames=over_frames)))
    site.proj_in.bias.zero_()
    x = (torch.randn(6, 64, 4, 4) * 1e4 + 2e4).clamp(-6e4, 6e4).to(dtype)
    with torch.no_grad():
        expected = site(x.float(), 6) - x.float()
        half = site.to(dtype)
        tokens = half.normed(x, 6)
        assert tokens.isfinite().all() and tokens.abs().max() < 100
        change = half(torch.zeros_like(x), 6)
    assert change.dtype == dtype and change.isfinite().all()
    with torch.no_grad():
        found = half.on_tokens(tokens[0].to(dtype).permute(2, 0, 1)).permute(1, 2, 0).float().view(expected.shape)
    assert (found - expected).abs().max() / expected.abs().max() < 4 * tolerance


def rounded(x, groups, weight=None, bias=None, eps=1e-5):
    """Return a group norm as CUDA computed it for years: sums in fp32, mean and deviation rounded to x's dtype."""
    wide = x.float().reshape(len(x), groups, -1)
    var, mean = torch.var_mean(wide, -1, correction=0, keepdim=True)
    mean, scale = (each.to(x.dtype).float() for each in (mean, (var + eps).rsqrt()))
    normed, form = ((wide - mean) * scale).view(x.shape), (1, -1, *[1] * (x.ndim - 2))
    return (normed if weight is None else normed * weight.view(form) + bias.view(form)).to(x.dtype)


def missing(*given):
    raise NotImplementedError


@pytest.fixture(params=["torch's", "rounded", "missing for half precision"])
def kernel(request, monkeypatch):
    """Use torch's own group norm, one that rounds its statistics, or none for half precision."""
    plain = torch.nn.functional.group_norm
    other = {"rounded": rounded, "missing for half precision": missing}.get(request.param)
    if other:
        monkeypatch.setattr(torch.nn.functional, "group_norm",
                            lambda x, *given: (plain if x.element_size() >= 4 else other)(x, *given))
    precision.forget_trials()
    yield
    precision.forget_trials()


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("over_frames", [False, True])
@pytest.mark.parametrize("dtype, offset", [(torch.float16, 2000), (torch.bfloat16, 300)])
def test_norms_of_half_precision_are_computed_in_fp32(over_frames, dtype, offset, make_module):
    """The norm's error is at most 3e-4; with statistics in half precision it would be 1e-3 or more.

    The result is rounded once, for the matrix products. Rounding is monotonic, so the rounded result must lie between
    the rounded bounds.
    """
    site = site_of(make_module(replace(FAMILIES["v2"], module_norm_over_frames=over_frames))).to(dtype)
    x = (torch.randn(6, 64, 4, 4) * 3 + offset).to(dtype)
    groups = x.double().view(6, 32, 2, 4, 4)
    axes = (0, 2, 3, 4) if over_frames else (2, 3, 4)
    var, mean = torch.var_mean(groups, axes, correction=0, keepdim=True)
    expected = ((groups - mean) / (var + 1e-6).sqrt()).view(6, 64, 16)
    expected = expected * site.norm.weight.double()[:, None] + site.norm.bias.double()[:, None]
    found = site.normed(x, 6)[0].to(dtype)  # fp32 if the kernel's input was converted
    assert ((expected - 3e-4).to(dtype) <= found).all() and (found <= (expected + 3e-4).to(dtype)).all()
    assert (site.float().normed(x, 6)[0].double() - expected).abs().max() < 3e-4  # for products in fp32


def test_keys_are_the_original_ones(make_module):
    """Names and their number are as in the published mm_sd_v15_v2.ckpt and v3_sd15_mm.ckpt: 21 and 20 sites of 28."""
    keys = set(make_module("v2").state_dict())
    prefix = "down_blocks.3.motion_modules.1.temporal_transformer."
    block = prefix + "transformer_blocks.0."
    attention = [
        f"{block}attention_blocks.{i}.{n}"
        for i in (0, 1)
        for n in ("to_q.weight", "to_k.weight", "to_v.weight", "to_out.0.weight", "to_out.0.bias", "pos_encoder.pe")
    ]
    rest = [f"{block}{n}" for n in ("ff.net.0.proj.weight", "ff.net.0.proj.bias", "ff.net.2.weight", "ff.net.2.bias")]
    norms = [f"{block}{n}.{p}" for n in ("norms.0", "norms.1", "ff_norm") for p in ("weight", "bias")]
    ends = [f"{prefix}{n}.{p}" for n in ("norm", "proj_in", "proj_out") for p in ("weight", "bias")]
    assert {key for key in keys if key.startswith(prefix)} == {*attention, *rest, *norms, *ends}
    assert len(keys) == 21 * 28 and "mid_block.motion_modules.0.temporal_transformer.norm.weight" in keys
    assert "up_blocks.3.motion_modules.2.temporal_transformer.norm.weight" in keys
    assert len(make_module("v3").state_dict()) == 20 * 28
    assert len(make_module("AnimateLCM").state_dict()) == 21 * 26
    assert len(make_module("AnimateDiff-SDXL").state_dict()) == 15 * 28
