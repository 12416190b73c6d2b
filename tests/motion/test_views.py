"""Context windows inside a motion module: against diffusers' FreeNoise, and against float64 for plans it lacks."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_cases import slow
from torch import nn

from animatediff import fuse, windows
from animatediff.errors import ModelError
from animatediff.layout import ClipLayout, Views
from animatediff.motion import FAMILIES, injected
from animatediff.motion.in_windows import InWindows
from animatediff.settings import Settings

pytestmark = pytest.mark.usefixtures("tiling")


def views_of(frames, context, overlap, method="pyramid", loop="none", step=0):
    plan_settings = Settings(enable=True, frames=frames, context_length=context, overlap=overlap, fuse_method=method,
                     closed_loop=loop, context_schedule="views")
    return Views.of(plan_settings, frames, tuple(range(frames)), step)


def layout_of(frames, views):
    return lambda rows: ClipLayout.contiguous(frames, rows // frames, views)


class NormOfEachFrame(nn.GroupNorm):
    """A GroupNorm of each frame, as in the original v2; diffusers' motion modules pass x [b c f h w] to their norm."""

    def forward(self, x):
        return super().forward(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (len(x), -1)).transpose(1, 2)


@pytest.mark.parametrize("name, method", [("v2", "pyramid"), slow("v3", "flat"), slow("AnimateDiff-SDXL", "pyramid")])
def test_a_full_last_window_agrees_with_freenoise(name, method, make_module, make_host, inputs):
    diffusers = pytest.importorskip("diffusers")
    from diffusers.pipelines.free_noise_utils import AnimateDiffFreeNoiseMixin

    from tests.motion.test_motion_parity import adapter_of

    frames, context, overlap, clips = 10, 4, 2, 2
    module = make_module(name)
    host = make_host("diffusers", FAMILIES[name].base)
    oracle = diffusers.UNetMotionModel.from_unet2d(host.unet, adapter_of(module)).eval()
    pipeline = AnimateDiffFreeNoiseMixin()
    pipeline.unet, pipeline.motion_adapter = oracle, adapter_of(module)
    pipeline.device, pipeline.dtype = torch.device("cpu"), torch.float32
    pipeline.enable_free_noise(context_length=context, context_stride=context - overlap, weighting_scheme=method)
    for part in oracle.modules():
        if type(part).__name__ == "AnimateDiffTransformer3D":
            part.norm.__class__ = NormOfEachFrame
    if module.family.module_norm_over_frames:  # ours would normalise each window
        for site in module.sites().values():
            site.temporal_transformer.over_frames = False
    x, text = inputs(frames * clips, size=16)  # size 8 is too small for exact norms: innermost groups have two values
    with torch.no_grad():
        video = x.view(clips, frames, 4, 16, 16).transpose(1, 2)
        expected = oracle(video, 321, text).sample.transpose(1, 2).reshape(x.shape)
    with injected(host.unet, module, layout_of(frames, views_of(frames, context, overlap, method))):
        found = host(x, text)
    with injected(host.unet, module, layout_of(frames, None)):
        at_once = host(x, text)
    assert (found - expected).abs().max() <= 1e-5 * max(1, expected.abs().max())
    assert (at_once - expected).abs().max() > 1e-2


def in_float64(site, x, plan, weights):
    """Return the temporal transformer's result in float64 for one clip [f c h w], computed in the windows of `plan`."""
    state = {name: value.double() for name, value in site.state_dict().items()}

    def linear(name, x):
        bias = state.get(f"{name}.bias")
        return F.linear(x, state[f"{name}.weight"], bias)

    def norm(name, x):
        return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"])

    f, c, h, w = x.shape
    normed = F.group_norm(x.double(), 32, state["norm.weight"], state["norm.bias"], 1e-6)
    tokens = linear("proj_in", normed.permute(2, 3, 0, 1).reshape(h * w, f, c))
    total, weight = torch.zeros_like(tokens), torch.zeros(f, dtype=torch.float64)
    block = "transformer_blocks.0"
    for window, row in zip(plan, weights):
        y = tokens[:, list(window)]
        for i in (0, 1):
            name = f"{block}.attention_blocks.{i}"
            z = norm(f"{block}.norms.{i}", y) + state[f"{name}.pos_encoder.pe"][:, : len(window)]
            q, k, v = (linear(f"{name}.to_{part}", z).unflatten(-1, (8, -1)).transpose(1, 2) for part in "qkv")
            a = (q @ k.transpose(-1, -2) / (c // 8) ** 0.5).softmax(-1) @ v
            y = y + linear(f"{name}.to_out.0", a.transpose(1, 2).flatten(2))
        for place, frame in enumerate(window):
            total[:, frame] += row[place] * y[:, place]
            weight[frame] += row[place]
    tokens = total / weight[:, None]
    value, gate = linear(f"{block}.ff.net.0.proj", norm(f"{block}.ff_norm", tokens)).chunk(2, -1)
    tokens = tokens + linear(f"{block}.ff.net.2", value * F.gelu(gate))
    return x.double() + linear("proj_out", tokens).view(h, w, f, c).permute(2, 3, 0, 1)


@pytest.mark.parametrize("loop, plan", [
    ("none", [(0, 1, 2, 3), (3, 4, 5, 6), (5, 6, 7, 8)]),  # by hand: the last window ends with the clip
    ("R+P", [(0, 1, 2, 3), (3, 4, 5, 6), (6, 7, 8, 0)]),
    ("seamless", [(0, 1, 2, 3), (3, 4, 5, 6), (6, 7, 8, 0)]),
])  # fmt: skip
@pytest.mark.parametrize("method", fuse.METHODS)
def test_a_shifted_last_window_agrees_with_float64(method, loop, plan, make_module):
    module = make_module("v2")
    name, site = next(iter(module.sites().items()))
    x = torch.randn(9, 32, 3, 5, generator=torch.Generator().manual_seed(3))
    views = views_of(9, 4, 1, method, loop)
    assert list(views.windows) == plan
    weights = [fuse.weights(window, method, frames=9, overlap=1) for window in plan]
    expected = in_float64(site.temporal_transformer, x, plan, weights)
    found = site(x, 9, in_windows=InWindows(views, tuple(range(9)), x, module))
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()
    assert (site(x, 9) - expected).abs().max() > 1e-2


def test_norms_take_their_statistics_in_each_window(make_module, make_host, inputs):
    """v1's norms of the UNet, against the windows' closed forms in float64."""
    host, module = make_host("diffusers", "SD1.5"), make_module("v1")
    x, text = inputs(6, size=16)
    x = x * torch.linspace(0.3, 2, 6)[:, None, None, None]
    seen = {}
    with injected(host.unet, module, layout_of(6, views_of(6, 4, 2, "flat"))):
        norm = host.unet.down_blocks[0].resnets[0].norm1
        norm.register_forward_hook(lambda m, args, out: seen.update(given=args[0], found=out))
        host(x, text)

    def normed(clip):
        groups = clip.double().unflatten(1, (norm.num_groups, -1))
        var, mean = torch.var_mean(groups, (0, 2, 3, 4), correction=0, keepdim=True)
        out = ((groups - mean) / (var + norm.eps).sqrt()).flatten(1, 2)
        return out * norm.weight.double()[:, None, None] + norm.bias.double()[:, None, None]

    first, second = normed(seen["given"][:4]), normed(seen["given"][2:])
    expected = torch.cat((first[:2], (first[2:] + second[:2]) / 2, second[2:]))
    assert (seen["found"] - expected).abs().max() < 1e-5 * expected.abs().max()
    assert (seen["found"] - normed(seen["given"])).abs().max() > 1e-2


def test_a_module_norm_over_frames_is_computed_per_window(make_module):
    module = make_module("AnimateDiff-SDXL")
    site = next(iter(module.sites().values())).temporal_transformer
    x = torch.randn(6, 32, 4, 4, generator=torch.Generator().manual_seed(3)) * torch.arange(1, 7)[:, None, None, None]
    found = site.normed(x, 6, InWindows(views_of(6, 4, 2, "flat"), tuple(range(6)), x))[0]

    def normed(clip):
        return F.group_norm(clip.double().transpose(0, 1)[None], 32, site.norm.weight.double(), site.norm.bias.double(),
                            1e-6)[0].transpose(0, 1).flatten(2)

    first, second = normed(x[:4]), normed(x[2:])
    expected = torch.cat((first[:2], (first[2:] + second[:2]) / 2, second[2:]))
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("base", ["SD1.5", "SDXL"])
def test_both_layouts_give_the_same(base, make_host, make_module, inputs):
    x, text = inputs(2 * 9)
    for name in {"SD1.5": ["v1", "v3"], "SDXL": ["HotShot-XL"]}[base]:
        found = []
        for layout in ("diffusers", "ldm"):
            host = make_host(layout, base)
            with injected(host.unet, make_module(name), layout_of(9, views_of(9, 4, 1, loop="seamless", step=1))):
                found.append(host(x, text))
        torch.testing.assert_close(*found, rtol=1e-5, atol=5e-5)


def test_a_closed_loop_may_start_at_any_frame(make_module, make_host, inputs):
    """With windows across the seam, rotating the clip's frames rotates the result."""
    host, module = make_host("diffusers", "SD1.5"), make_module("v2")
    x, text = inputs(8)
    views = views_of(8, 4, 0, loop="seamless")
    turned = Views(tuple(tuple((i + 3) % 8 for i in window) for window in views.windows), views.shares)
    with injected(host.unet, module, layout_of(8, views)):
        found = host(x, text)
    with injected(host.unet, module, layout_of(8, turned)):
        moved = host(x.roll(3, 0), text.roll(3, 0))
    torch.testing.assert_close(moved, found.roll(3, 0), rtol=0, atol=1e-5)


def test_a_window_longer_than_the_positions_is_refused(make_module, make_host, inputs):
    host, module = make_host("diffusers", "SD1.5"), make_module("v3", frames=4)
    x, text = inputs(9)
    with injected(host.unet, module, layout_of(9, views_of(9, 4, 1))):
        host(x, text)
        assert module.window == ()
    with pytest.raises(ModelError, match="a window of 5 frames"), \
            injected(host.unet, module, layout_of(9, views_of(9, 5, 1))):
        host(x, text)


def test_the_module_knows_the_frames_of_the_current_window(make_module, make_host, inputs):
    """Weights per frame, such as a LoRA's, are looked up by `module.window`."""
    host, module = make_host("diffusers", "SD1.5"), make_module("v2")
    block = module.down_blocks[0].motion_modules[0].temporal_transformer.transformer_blocks[0]
    seen = {"attention": [], "feed-forward": []}
    block.attention_blocks[1].to_q.register_forward_hook(lambda *a: seen["attention"].append(module.window))
    block.ff.net[2].register_forward_hook(lambda *a: seen["feed-forward"].append(module.window))
    x, text = inputs(9)
    views = views_of(9, 4, 1)
    with injected(host.unet, module, layout_of(9, views)):
        host(x, text)
    assert set(seen["attention"]) == set(views.windows) and set(seen["feed-forward"]) == {tuple(range(9))}


@settings(deadline=None, max_examples=60)
@given(frames=st.integers(1, 60), context=st.integers(1, 20), overlap=st.integers(-1, 19), step=st.integers(0, 20),
       loop=st.sampled_from(windows.CLOSED_LOOPS), method=st.sampled_from(list(fuse.METHODS)))
def test_layers_that_do_not_mix_frames_give_the_same_in_windows(frames, context, overlap, step, loop, method):
    views = views_of(frames, context, min(overlap, context - 1), method, loop, step)
    if views is None:
        assert frames <= context
        return
    assert {place for window in views.windows for place in window} == set(range(frames))
    assert all(len(set(window)) == len(window) == min(frames, context) for window in views.windows)
    wraps = any(map(windows.wraps, views.windows))
    assert wraps <= (loop not in ("none", "ping-pong"))
    x = torch.randn(3, frames, 5, generator=torch.Generator().manual_seed(frames))
    scale = torch.linspace(0.5, 2, frames).expand(3, -1)
    found = InWindows(views, tuple(range(frames)), x)(lambda x, s: torch.sin(x) * s[..., None], x, scale)
    torch.testing.assert_close(found, torch.sin(x) * scale[..., None], rtol=0, atol=1e-5)


@given(frames=st.integers(1, 16), loop=st.sampled_from(["none", "ping-pong", "R-P", "R+P", "A"]))
def test_a_single_window_needs_no_views(frames, loop):
    """Then the UNet runs as without views, bit for bit."""
    assert views_of(frames, 16, 4, loop=loop) is None


def test_only_whole_clips_have_views():
    plan_settings = Settings(enable=True, frames=32, context_schedule="views")
    assert Views.of(plan_settings, 32, tuple(range(32)), 0)
    assert Views.of(plan_settings, 32, tuple(range(24, 40)), 0) is None  # the repair of a seam
    assert Views.of(Settings(enable=True, frames=32), 32, tuple(range(32)), 0) is None
