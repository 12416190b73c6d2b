"""Motion LoRAs and the domain adapter: read every naming, apply the formula, restore the weights bit for bit."""

from __future__ import annotations

import lora_files_by_hand as by_hand
import pytest
import torch
from safetensors.torch import save_file

from animatediff.curves import Curve
from animatediff.errors import ModelError
from animatediff.layout import ClipLayout
from animatediff.motion import injected
from animatediff.motion.lora import applied, applied_to_unet, check_fit, module_layers, notices
from animatediff.motion.lora_files import describe, load

WIDTHS = (32, 64, 64, 64)
NAMINGS = {
    "original": by_hand.original, "of a trainer": lambda found: by_hand.original(found, "module."),
    "diffusers": by_hand.diffusers, "peft": by_hand.peft, "peft's own": lambda found: by_hand.peft(found, ".default"),
    "WebUI": by_hand.webui, "kohya": lambda found: by_hand.webui(found, "lora_unet_"),
}  # fmt: skip


def curve(text) -> Curve:
    return Curve.read(text)


def weight_of(module, site, attention, layer):
    block = module.get_submodule(f"{site}.temporal_transformer.transformer_blocks.0.attention_blocks.{attention}")
    return block.to_out[0] if layer == "to_out" else getattr(block, layer)


def tensors_of(module):
    return {name: (id(p), p.detach().clone()) for name, p in module.named_parameters()}


def same(module, before) -> bool:
    now = dict(module.named_parameters())
    hooks = sum(len(m._forward_hooks) for m in module.modules())
    return now.keys() == before.keys() and not hooks and all(
        id(now[name]) == number and torch.equal(now[name], value) for name, (number, value) in before.items())


@pytest.mark.parametrize("naming", NAMINGS)
def test_every_naming_changes_every_layer_by_up_times_down(naming, make_module):
    module, found = make_module("v2"), by_hand.pairs(WIDTHS)
    lora = load(NAMINGS[naming](found), name="zoom")
    assert (lora.about.kind, lora.about.rank, lora.about.widths, lora.about.has_mid) == ("motion LoRA", 4, WIDTHS, True)
    before = tensors_of(module)
    plain = {at: weight_of(module, *at).weight.double() for at in found}
    with applied(module, [(lora, curve(0.7))], 4):
        for at, (down, up) in found.items():
            expected = plain[at] + 0.7 * (up.double() @ down.double())
            assert (weight_of(module, *at).weight - expected).abs().max() < 1e-6
        changed = {name for name, p in module.named_parameters() if id(p) != before[name][0]}
        assert len(changed) == len(found)
    assert same(module, before)


@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt", ".pth"])
def test_files(suffix, tmp_path, make_module):
    path, state = tmp_path / f"named_anything{suffix}", by_hand.original(by_hand.pairs(WIDTHS), "module.")
    if suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save({"state_dict": state, "epoch": 3}, path)
    assert describe(path) == load(path).about and describe(path).name == path.name
    found = load(path).changes["mid_block_motion_modules_0_transformer_blocks_0_attn2_to_out_0"]
    key = "module.mid_block.motion_modules.0.temporal_transformer.transformer_blocks.0.attention_blocks.1.processor."
    assert torch.equal(found.up, state[f"{key}to_out_lora.up.weight"])


def test_alpha_over_rank(make_module):
    module, found = make_module("v2"), by_hand.pairs(WIDTHS, rank=8)
    layer, (down, up) = ("down_blocks.1.motion_modules.0", 1, "to_v"), \
        found["down_blocks.1.motion_modules.0", 1, "to_v"]
    plain = weight_of(module, *layer).weight.double()
    with applied(module, [(load(by_hand.webui(found, alpha=2.0), name="zoom"), curve(0.5))], 4):
        assert (weight_of(module, *layer).weight
                - (plain + 0.5 * 2 / 8 * up.double() @ down.double())).abs().max() < 1e-6


def test_half_precision_weights_are_merged_in_fp32(make_module):
    module, found = make_module("v2").half(), by_hand.pairs(WIDTHS, size=0.01)
    lora = load({key: tensor.half() for key, tensor in by_hand.original(found).items()}, name="zoom")
    before, plain = tensors_of(module), {at: weight_of(module, *at).weight for at in found}
    with applied(module, [(lora, curve(1))], 4):
        for at, (down, up) in found.items():
            exact = plain[at].double() + up.half().double() @ down.half().double()
            here = weight_of(module, *at).weight
            assert here.dtype == torch.float16
            step = torch.finfo(torch.float16).eps * exact.abs().clamp(min=2**-14)
            assert ((here - exact).abs() <= 0.501 * step).all()  # rounded to the nearest fp16 number
    assert same(module, before)


def test_several_loras_add_up_and_a_weight_of_0_changes_nothing(make_module):
    module, first, second = make_module("v2"), by_hand.pairs(WIDTHS, seed=1), by_hand.pairs(WIDTHS, rank=2, seed=2)
    before = tensors_of(module)
    loras = [load(by_hand.original(first), name="a"), load(by_hand.peft(second), name="b")]
    with applied(module, [(loras[0], curve(0)), (loras[1], curve("0: 0, 8: 0"))], 16):
        assert same(module, before)
    with applied(module, [(loras[0], curve(1)), (loras[1], curve(-0.5)), (loras[0], curve(0.25))], 16):
        for at, (down, up) in first.items():
            expected = before[_name(at)][1].double() + 1.25 * up.double() @ down.double()
            expected -= 0.5 * second[at][1].double() @ second[at][0].double()
            assert (weight_of(module, *at).weight - expected).abs().max() < 1e-6


def _name(at) -> str:
    site, attention, layer = at
    at = f"{site}.temporal_transformer.transformer_blocks.0.attention_blocks.{attention}.{layer}"
    return f"{at}.0.weight" if layer == "to_out" else f"{at}.weight"


def by_frame(layer, changes):
    """Return a linear layer's forward in float64 with a different weight per frame. changes: [f out in]."""
    weight = layer.weight.double() + changes

    def forward(x):
        bias = 0 if layer.bias is None else layer.bias.double()
        return (torch.einsum("bfi,foi->bfo", x.double(), weight) + bias).to(x.dtype)

    return forward


@pytest.mark.parametrize("frames", [(0, 1, 2, 3), (5, 6, 7, 0)], ids=["first window", "window across the seam"])
def test_a_varying_weight_is_applied_per_frame(frames, make_host, make_module, inputs, clips_of):
    """Frames of a window get the weights of their numbers in the clip. Here weights fall from 1 to 0 over 8 frames."""
    module, host, found = make_module("v2").double(), make_host("diffusers", "SD1.5"), by_hand.pairs(WIDTHS)
    host.unet.double()
    x, text = (tensor.double() for tensor in inputs(8))

    def layout(rows):
        return ClipLayout.contiguous(frames, groups=2)

    lora, fading = load(by_hand.original(found), name="zoom"), curve("0: 1, 7: 0")
    before = tensors_of(module)
    with applied(module, [(lora, fading)], 8), injected(host.unet, module, layout):
        result = host(x, text)
    assert same(module, before)
    with injected(host.unet, module, layout):
        plain = host(x, text)
    weights = torch.tensor([1 - frame / 7 for frame in frames], dtype=torch.float64)[:, None, None]
    for at, (down, up) in found.items():
        layer = weight_of(module, *at)
        layer.forward = by_frame(layer, weights * (up.double() @ down.double()))
    with injected(host.unet, module, layout):
        expected = host(x, text)
    assert (result - expected).abs().max() < 1e-6 * expected.abs().max()
    assert (plain - expected).abs().max() > 1e-2


def test_hooks_and_merging_agree(make_host, make_module, inputs, clips_of):
    module, host = make_module("v3"), make_host("diffusers", "SD1.5")
    lora = load(by_hand.original(by_hand.pairs(WIDTHS, mid=False)), name="zoom")
    x, text = inputs(8)
    found = []
    for weight in ("0.6", "0: 0.6, 100: 0.600001"):
        with applied(module, [(lora, curve(weight))], 4), injected(host.unet, module, clips_of(4)):
            found.append(host(x, text))
    assert (found[0] - found[1]).abs().max() < 1e-4 * found[0].abs().max()


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("weight", [0.5, "0: 1, 3: 0"])
def test_an_exception_leaves_nothing(error, weight, make_module):
    module = make_module("v2")
    before = tensors_of(module)
    with pytest.raises(error), \
            applied(module, [(load(by_hand.original(by_hand.pairs(WIDTHS)), name="a"), curve(weight))], 4):
        assert not same(module, before)
        raise error
    assert same(module, before)


def test_a_lora_that_does_not_fit_changes_nothing(make_module):
    module = make_module("v2")
    before = tensors_of(module)
    fits, other = (load(by_hand.original(by_hand.pairs(widths)), name=f"{widths[0]}.ckpt")
                   for widths in (WIDTHS, (64,) * 4))
    message = r"64\.ckpt is made for 64/64/64/64 channels per level but tiny v2 has 32/64/64/64"
    with pytest.raises(ModelError, match=message), applied(module, [(fits, curve(1)), (other, curve(1))], 4):
        pass
    assert same(module, before)


def test_loras_that_do_not_fit_are_refused_with_the_reason(make_module):
    xl = make_module("HotShot-XL")
    lora = load(by_hand.original(by_hand.pairs(WIDTHS)), name="zoom.ckpt")
    with pytest.raises(ModelError,
                       match="zoom.ckpt is an SD1.5 motion LoRA but tiny HotShot-XL is an SDXL motion module"):
        check_fit(lora.about, xl)
    partly = {key: value for key, value in by_hand.original(by_hand.pairs((32, 96, 64, 64))).items()
              if "n_blocks.1.m" in key}
    with pytest.raises(ModelError, match="part.ckpt has a change of 96x96 for down_blocks_1_motion_modules_0"):
        check_fit(load(partly, name="part.ckpt").about, make_module("v2"))
    more = {key.replace("motion_modules.0.", "motion_modules.7."): value for key, value in partly.items()}
    with pytest.raises(ModelError, match="motion_modules_7.*which tiny v2 does not have"):
        check_fit(load(more, name="part.ckpt").about, make_module("v2"))


def test_a_missing_middle_block_is_skipped(make_module):
    module, found = make_module("v3"), by_hand.pairs(WIDTHS)
    lora = load(by_hand.original(found), name="zoom.ckpt")
    before = tensors_of(module)
    with applied(module, [(lora, curve(1))], 4):
        changed = {name for name, p in module.named_parameters() if id(p) != before[name][0]}
    assert len(changed) == len([at for at in found if not at[0].startswith("mid")]) == len(found) - 8
    assert "zoom.ckpt was trained on a motion module with a middle block, which tiny v3 does not have" in notices(
        lora.about, module.name, False)[0]
    assert notices(lora.about, "x", True) == []


IMAGE = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
KOHYA = {f"{IMAGE}.lora_down.weight": (4, 32), f"{IMAGE}.lora_up.weight": (32, 4)}
PEFT = {f"unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.lora_{side}.weight": (4, 32) for side in "AB"}
ONE = "down_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0.attention_blocks.0.processor.to_q_lora"


@pytest.mark.parametrize("shapes, message", {
    "image LoRA": (KOHYA, "is an image LoRA, not a motion LoRA. Name it in the prompt of a WebUI"),
    "image LoRA, peft": (PEFT, "is an image LoRA, not a motion LoRA"),
    "LyCORIS": ({f"{IMAGE}.hada_w1_a": (4, 4)}, "is an image LoRA"),
    "module": ({"down_blocks.0.motion_modules.0.temporal_transformer.norm.weight": (32,)},
               "is not a motion LoRA: none of"),
    "half": ({f"{ONE}.down.weight": (4, 32)}, "is an incomplete motion LoRA: down_blocks_0.*has no up"),
    "odd": ({f"{ONE}.down.weight": (4, 32), f"{ONE}.up.weight": (32, 8)}, "do not fit together"),
    "both": ({f"{ONE}.down.weight": (4, 32), f"{ONE}.up.weight": (32, 4), **KOHYA},
             "a motion LoRA and an image LoRA in one"),
    "empty": ({}, "none of its 0 tensors"),
}.values())  # fmt: skip
def test_other_files_are_refused(shapes, message, tmp_path):
    path = tmp_path / "v2_lora_ZoomIn.safetensors"  # the file's name must not matter
    save_file({key: torch.zeros(shape) for key, shape in shapes.items()}, path)
    for read in (describe, load):
        with pytest.raises(ModelError, match=message) as caught:
            read(path)
        assert str(caught.value).startswith(path.name) and caught.value.remedy


# The domain adapter.


@pytest.mark.parametrize("layout", ["diffusers", "ldm"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_the_domain_adapter_acts_on_the_unets_attention(layout, wrapped, make_host, inputs, clips_of, tmp_path):
    """In both layouts the result is that of the same UNet with merged weights."""
    other = make_host("diffusers", "SD1.5").unet
    state = by_hand.adapter(other)
    path = tmp_path / "anything.ckpt"
    torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}} if wrapped else state, path)
    lora = load(path)
    assert lora.about.kind == "domain adapter" and len(lora.changes) == 16 * 8
    host = make_host(layout, "SD1.5")
    x, text = inputs(4)
    plain, weights = host(x, text), {name: p.clone() for name, p in host.unet.named_parameters()}
    with applied_to_unet(host.unet, [(lora, curve(0.8))], 4, clips_of(4)):
        found = host(x, text)
    assert torch.equal(host(x, text), plain)
    assert all(torch.equal(p, weights[name]) for name, p in host.unet.named_parameters())
    merged = make_host("diffusers", "SD1.5")
    with torch.no_grad():
        for key, down in state.items():
            if ".down." in key[-12:]:
                name = key.removesuffix("_lora.down.weight").replace(".processor", "").replace("to_out", "to_out.0")
                up = state[key.replace("_lora.down.", "_lora.up.")]
                merged.unet.get_submodule(name).weight += (0.8 * up.double() @ down.double()).float()
    expected = merged(x, text)
    assert (found - expected).abs().max() < 2e-5 * expected.abs().max() and (found - plain).abs().max() > 1e-2


def test_the_adapters_weight_may_vary_over_frames(make_host, inputs):
    host = make_host("diffusers", "SD1.5")
    lora = load(by_hand.adapter(host.unet), name="adapter")
    layout = ClipLayout(groups=((4, 0), (1, 3)), frames=((0, 1), (0, 1)))  # row 2 belongs to no clip
    x, text = inputs(5)
    with applied_to_unet(host.unet, [(lora, curve("0: 1, 1: 0.25"))], 2, lambda rows: layout):
        found = host(x, text)
    for weight, rows in ((1, [4, 1, 2]), (0.25, [0, 3])):
        with applied_to_unet(host.unet, [(lora, curve(weight))], 2, lambda rows: layout):
            expected = host(x, text)
        assert (found[rows] - expected[rows]).abs().max() < 1e-5 * expected.abs().max()


def test_an_adapter_for_another_model_is_refused(make_host, clips_of):
    state = by_hand.adapter(make_host("diffusers", "SD1.5").unet)
    lora = load({key: value.repeat(*(2 if n == 32 else 1 for n in value.shape)) for key, value in state.items()},
                name="big.ckpt")
    unet = make_host("ldm", "SD1.5").unet
    with pytest.raises(ModelError,
                       match="big.ckpt has a change of 64x64 for down_blocks_0_attentions_0.*the checkpoint"):
        with applied_to_unet(unet, [(lora, curve(1))], 4, clips_of(4)):
            pass
    assert not any(m._forward_hooks for m in unet.modules())


def test_motion_loras_and_adapters_given_together_are_separated(make_host, make_module, clips_of):
    module, unet = make_module("v3"), make_host("diffusers", "SD1.5").unet
    both = [(load(by_hand.adapter(unet), name="adapter"), curve(1)),
            (load(by_hand.original(by_hand.pairs(WIDTHS)), name="zoom"), curve("0: 1, 3: 0"))]
    with applied(module, both, 4), applied_to_unet(unet, both, 4, clips_of(4)):
        hooked = [sum(len(m._forward_hooks) for m in net.modules()) for net in (module, unet)]
    assert hooked == [20 * 8, 16 * 8] and len(module_layers(module)) == 20 * 12


# Against another implementation.


@pytest.mark.parametrize("naming", ["diffusers", "peft"])
def test_agrees_with_loras_in_diffusers(naming, make_module, make_host, inputs, clips_of):
    """Compare with UNetMotionModel and two LoRAs, loaded by diffusers and peft."""
    pytest.importorskip("peft")
    from dataclasses import replace

    import diffusers
    from test_motion_parity import adapter_of

    from animatediff.motion import FAMILIES

    module = make_module(replace(FAMILIES["v2"], module_norm_over_frames=True))
    host = make_host("diffusers", "SD1.5")
    oracle = diffusers.UNetMotionModel.from_unet2d(host.unet, adapter_of(module)).eval()
    states = [NAMINGS[naming](by_hand.pairs(WIDTHS, seed=seed)) for seed in (1, 2)]
    loader = diffusers.loaders.StableDiffusionLoraLoaderMixin
    for name, state in zip("ab", states):
        read, alphas = loader.lora_state_dict(dict(state))
        loader.load_lora_into_unet(read, alphas, oracle, adapter_name=name)
    oracle.set_adapters(["a", "b"], [0.8, -0.3])
    x, text = inputs(8)
    with torch.no_grad():
        expected = oracle(x.view(2, 4, 4, 8, 8).transpose(1, 2), 321, text).sample.transpose(1, 2).reshape(x.shape)
    ours = [(load(state, name="x"), curve(weight)) for state, weight in zip(states, (0.8, -0.3))]
    with applied(module, ours, 4), injected(host.unet, module, clips_of(4)):
        found = host(x, text)
    with injected(host.unet, module, clips_of(4)):
        plain = host(x, text)
    assert (found - expected).abs().max() < 2e-5 * expected.abs().max() and (plain - expected).abs().max() > 1e-2


def test_the_adapter_agrees_with_diffusers(make_host, inputs, clips_of):
    pytest.importorskip("peft")
    import diffusers

    host, oracle = make_host("ldm", "SD1.5"), make_host("diffusers", "SD1.5").unet
    state = by_hand.adapter(oracle)
    loader = diffusers.loaders.StableDiffusionLoraLoaderMixin
    read, alphas = loader.lora_state_dict({f"unet.{key}": value for key, value in state.items()})
    loader.load_lora_into_unet(read, alphas, oracle, adapter_name="a")
    oracle.set_adapters(["a"], [0.8])
    x, text = inputs(4)
    with torch.no_grad():
        expected = oracle(x, 321, text).sample
    with applied_to_unet(host.unet, [(load(state, name="adapter"), curve(0.8))], 4, clips_of(4)):
        found = host(x, text)
    assert (found - expected).abs().max() < 2e-5 * expected.abs().max()
