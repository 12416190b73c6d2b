"""Injection into both UNet layouts: its effect on each row, and that it leaves nothing behind."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from animatediff.errors import ModelError
from animatediff.layout import ClipLayout
from animatediff.motion import FAMILIES, build, injected
from animatediff.unet.places import find_places

FOR = {"SD1.5": ["v1", "v2", "v3", "AnimateLCM"], "SDXL": ["AnimateDiff-SDXL", "HotShot-XL"]}


def state_of(unet: nn.Module):
    """Return everything that a host could notice: keys, hooks, attributes that shadow methods, training mode."""
    hooks = [sum(len(getattr(m, kind)) for m in unet.modules()) for kind in ("_forward_hooks", "_forward_pre_hooks")]
    shadows = [name for name, m in unet.named_modules() if "forward" in vars(m) or "__call__" in vars(m)]
    children = [(name, type(m)) for name, m in unet.named_modules()]
    return list(unet.state_dict()), hooks, shadows, children, [m.training for m in unet.modules()]


def test_a_new_module_changes_nothing_and_leaves_nothing(host, inputs, clips_of):
    x, text = inputs(8)
    before, plain = state_of(host.unet), host(x, text)
    for name in FOR[host.base]:
        if FAMILIES[name].resnet_norm_over_frames:
            continue  # these families change the UNet's own norms
        module = build(tuple(find_places(host.unet).widths), name)
        calls = []
        module.down_blocks[0].motion_modules[0].register_forward_hook(lambda *a: calls.append(1))
        with injected(host.unet, module, clips_of(4)):
            assert state_of(host.unet) != before
            assert torch.equal(host(x, text), plain)
        assert calls and state_of(host.unet) == before and torch.equal(host(x, text), plain)


def test_an_exception_inside_leaves_nothing(host, inputs, make_module, clips_of):
    x, text = inputs(8)
    before, plain = state_of(host.unet), host(x, text)
    for name in FOR[host.base]:
        for error in (RuntimeError, KeyboardInterrupt):
            with pytest.raises(error), injected(host.unet, make_module(name), clips_of(4)):
                assert not torch.equal(host(x, text), plain)
                raise error
            assert state_of(host.unet) == before and torch.equal(host(x, text), plain)


def test_a_second_scope_is_refused_and_leaves_the_first(host, inputs, make_module, clips_of):
    module = make_module(FOR[host.base][-1])
    x, text = inputs(4)
    before = state_of(host.unet)
    with injected(host.unet, module, clips_of(4)):
        moving = host(x, text)
        with pytest.raises(ModelError, match="already carries"), injected(host.unet, module, clips_of(4)):
            pass
        assert torch.equal(host(x, text), moving)
    assert state_of(host.unet) == before
    with injected(host.unet, module, clips_of(4)):
        assert torch.equal(host(x, text), moving)


@pytest.mark.parametrize("base", FOR)
def test_both_layouts_give_the_same(base, make_host, make_module, inputs, clips_of):
    hosts = [make_host(layout, base) for layout in ("diffusers", "ldm")]
    x, text = inputs(8)
    plain = [host(x, text) for host in hosts]
    torch.testing.assert_close(plain[0], plain[1], rtol=0, atol=1e-5)  # precondition of the comparison below
    for name in FOR[base]:
        found = []
        for host in hosts:
            with injected(host.unet, make_module(name), clips_of(4)):
                found.append(host(x, text))
        torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-5)
        assert (found[0] - plain[0]).abs().max() > 1e-2


@pytest.mark.parametrize("base", FOR)
def test_places_in_the_ldm_layout(base, make_host):
    """Compare with AnimateDiff's index table for A1111's UNet: input blocks 1 2 4 5 …, after the attention if any."""
    unet = make_host("ldm", base).unet
    names = {id(m): name for name, m in unet.named_modules()}
    found = {site: names[id(m)] for site, m in find_places(unet).sites.items()}
    down = {"SD1.5": [1, 2, 4, 5, 7, 8, 10, 11], "SDXL": [1, 2, 4, 5, 7, 8]}[base]
    plain = {"SD1.5": {"input": (10, 11), "output": (0, 1, 2)}, "SDXL": {"input": (1, 2), "output": (6, 7, 8)}}[base]
    for place in down:
        last = 0 if place in plain["input"] else 1
        assert found[f"down_blocks.{place // 3}.motion_modules.{place % 3 - 1}"] == f"input_blocks.{place}.{last}"
    for place in range({"SD1.5": 12, "SDXL": 9}[base]):
        last = 0 if place in plain["output"] else 1
        assert found[f"up_blocks.{place // 3}.motion_modules.{place % 3}"] == f"output_blocks.{place}.{last}"
    assert found["mid_block.motion_modules.0"] == "middle_block.1"
    assert len(found) == len(down) * 5 // 2 + 1


def test_groups_of_unequal_length_scattered_rows_and_single_pictures(host, inputs, make_module):
    """Each clip's result is as if it were alone in the batch; single pictures are as from the plain UNet."""
    layout = ClipLayout(groups=((5, 0, 3), (1, 6, 2, 8)), frames=((0, 1, 2), (4, 5, 6, 7)))
    x, text = inputs(9)
    plain = host(x, text)
    for name in FOR[host.base]:
        module = make_module(name)
        with injected(host.unet, module, lambda rows: layout):
            found = host(x, text)
        for group in layout.groups:
            rows = list(group)
            with injected(host.unet, module, lambda n: ClipLayout.contiguous(n)):
                alone = host(x[rows], text[rows])
            torch.testing.assert_close(found[rows], alone, rtol=0, atol=2e-4)
            assert (found[rows] - plain[rows]).abs().max() > 1e-2
        torch.testing.assert_close(found[[4, 7]], plain[[4, 7]], rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["v1", "v2", "AnimateDiff-SDXL", "HotShot-XL"])
def test_roles_do_not_mix(name, make_host, inputs, make_module, clips_of):
    host = make_host("diffusers", FAMILIES[name].base)
    x, text = inputs(8)
    other = torch.cat((x[:4], x[4:] * 3 + 1))
    with injected(host.unet, make_module(name), clips_of(4)):
        one, two = host(x, text), host(other, text)
    torch.testing.assert_close(one[:4], two[:4], rtol=0, atol=1e-6)
    assert (one[4:] - two[4:]).abs().max() > 1e-2


def test_order_of_frames_matters(host, inputs, make_module, clips_of):
    x, text = inputs(4)
    with injected(host.unet, make_module(FOR[host.base][0]), clips_of(4)):
        forth, back = host(x, text), host(x.flip(0), text.flip(0)).flip(0)
    assert (forth - back).abs().max() > 1e-2


def group_norm(x, norm, over_frames):
    """Return the closed form in float64 for one clip [f c h w]."""
    f, c, h, w = x.shape
    groups = x.double().view(f, norm.num_groups, -1, h, w)
    axes = (0, 2, 3, 4) if over_frames else (2, 3, 4)
    var, mean = torch.var_mean(groups, axes, correction=0, keepdim=True)
    normed = ((groups - mean) / (var + norm.eps).sqrt()).view(x.shape)
    return normed * norm.weight.double()[:, None, None] + norm.bias.double()[:, None, None]


@pytest.mark.parametrize("layout", ["diffusers", "ldm"])
@pytest.mark.parametrize("name", FAMILIES)
def test_group_norms_of_the_unet(name, layout, make_host, inputs, make_module, clips_of):
    """Every GroupNorm of the UNet agrees with its closed form: over frames for v1 and HotShot, except in attention."""
    family = FAMILIES[name]
    host = make_host(layout, family.base)
    norms = {n: m for n, m in host.unet.named_modules() if isinstance(m, nn.GroupNorm)}
    seen = {}
    x, text = inputs(8, size=16)  # size 8 is too small for exact norms: innermost groups have two values
    x = x * torch.linspace(0.3, 2, 8)[:, None, None, None]
    with injected(host.unet, make_module(name), clips_of(4)):
        handles = [
            m.register_forward_hook(lambda m, args, out, n=n: seen.update({n: (args[0], out)}))
            for n, m in norms.items()
        ]
        host(x, text)
        for handle in handles:
            handle.remove()
    assert seen.keys() == norms.keys()
    over = 0
    for n, (given, found) in seen.items():
        attention = "attentions" in n or n.endswith("1.norm")
        out = n in ("conv_norm_out", "out.0")
        flag = family.out_norm_over_frames if out else family.resnet_norm_over_frames and not attention
        over += flag
        for clip, result in zip(given.split(4), found.split(4)):
            expected = group_norm(clip, norms[n], flag)
            assert (result - expected).abs().max() < 2e-5 * expected.abs().max(), n
            assert (result - group_norm(clip, norms[n], not flag)).abs().max() > 1e-3, n
    resnets = {"SD1.5": 22, "SDXL": 17}[family.base]
    assert over == (2 * resnets + 1 if name in ("v1", "HotShot-XL") else 0)


def test_error_of_a_too_long_window_names_both_lengths(make_host, inputs, make_module, clips_of):
    host = make_host("diffusers", "SD1.5")
    x, text = inputs(10)
    before = state_of(host.unet)
    with pytest.raises(ModelError, match="10 frames.* 8 .*tiny v3.*8 or less"):
        with injected(host.unet, make_module("v3", frames=8), clips_of(10)):
            host(x, text)
    assert state_of(host.unet) == before
    module = make_module("AnimateLCM")
    module.check_frames(64)
    with pytest.raises(ModelError, match="65 .*64"):
        module.check_frames(65)


@pytest.mark.parametrize("layout", ["diffusers", "ldm"])
@pytest.mark.parametrize("name, base", [("AnimateDiff-SDXL", "SD1.5"), ("HotShot-XL", "SD1.5"), ("v2", "SDXL")])
def test_another_base_is_refused(layout, name, base, make_host, make_module, clips_of):
    unet = make_host(layout, base).unet
    before, own = state_of(unet), FAMILIES[name].base
    message = f"tiny {name} is an {own} motion module but the checkpoint is {base}. "
    message += f"Pick an {base} module or change the checkpoint."
    with pytest.raises(ModelError) as caught, injected(unet, make_module(name), clips_of(4)):
        pass
    assert str(caught.value) == message and state_of(unet) == before


def test_other_widths_are_refused(host, make_module, clips_of):
    name = FOR[host.base][0]
    widths = {"SD1.5": (32, 64, 64, 96), "SDXL": (32, 64, 64)}[host.base]
    with pytest.raises(ModelError, match="/".join(map(str, widths))):
        with injected(host.unet, make_module(name, widths=widths), clips_of(4)):
            pass


def test_other_networks_than_unets_are_refused(make_module, clips_of):
    with (
        pytest.raises(ModelError, match="Linear is not a UNet"),
        injected(nn.Linear(1, 1), make_module("v2"), clips_of(1)),
    ):
        pass


def test_sd2_is_refused_by_name(make_module, clips_of):
    diffusers = pytest.importorskip("diffusers")
    unet = diffusers.UNet2DConditionModel(block_out_channels=(32, 64, 64, 64), cross_attention_dim=1024, sample_size=8)
    with pytest.raises(ModelError, match="the checkpoint is SD2.x"), injected(unet, make_module("v2"), clips_of(4)):
        pass


def test_gradients_reach_the_module_through_a_frozen_unet(make_host, inputs, clips_of):
    host = make_host("diffusers", "SD1.5")
    module = build((32, 64, 64, 64), "v2")
    x, text = inputs(8)
    with injected(host.unet, module, clips_of(4)):
        host.unet(x, 500, text).sample.square().mean().backward()
    ends = {name for name, p in module.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert ends == {
        name for name, _ in module.named_parameters() if ".proj_out." in name
    }  # proj_out is zero, so other weights have no gradient yet
    assert all(p.grad is None for p in host.unet.parameters())
