"""Keys, sites, attention and feed-forward against diffusers' MotionAdapter and UNetMotionModel."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from slow_cases import slow

from animatediff.motion import FAMILIES, injected
from animatediff.motion.naming import to_diffusers, to_original

diffusers = pytest.importorskip("diffusers")


def adapter_of(module):
    adapter = diffusers.MotionAdapter(
        block_out_channels=module.widths,
        motion_max_seq_length=module.max_frames,
        use_motion_mid_block=module.family.has_mid,
    )
    adapter.load_state_dict(to_diffusers(module.state_dict()))
    return adapter


@pytest.mark.usefixtures("tiling")
@pytest.mark.parametrize("name", ["v2", "v3", slow("v1"), slow("LongAnimateDiff"), "AnimateDiff-SDXL", "HotShot-XL"])
def test_unet_agrees_with_unet_motion_model(name, make_module, make_host, inputs, clips_of):
    """diffusers computes the motion GroupNorm over frames and those of ResBlocks per frame; ours is set to the same."""
    matched = dict(module_norm_over_frames=True, resnet_norm_over_frames=False, out_norm_over_frames=False)
    family = FAMILIES[name]
    if name == "AnimateDiff-SDXL":  # needs no change
        assert all(getattr(family, key) == value for key, value in matched.items())
    module = make_module(replace(family, **matched))
    host = make_host("diffusers", family.base)
    frames, clips = 6, 2
    oracle = diffusers.UNetMotionModel.from_unet2d(host.unet, adapter_of(module)).eval()
    x, text = inputs(frames * clips)
    with torch.no_grad():
        video = x.view(clips, frames, 4, 8, 8).transpose(1, 2)
        expected = oracle(video, 321, text).sample.transpose(1, 2).reshape(x.shape)
    with injected(host.unet, module, clips_of(frames)):
        found = host(x, text)
    assert (found - expected).abs().max() <= 1e-5 * max(1, expected.abs().max())
    assert (host(x, text) - expected).abs().max() > 1e-2  # the plain UNet's result differs


def test_names_convert_to_diffusers_and_back(make_module):
    state = make_module("v2").state_dict()
    back = to_original(to_diffusers(state))
    assert back.keys() == state.keys() and all(torch.equal(back[key], state[key]) for key in state)


@pytest.mark.slow
def test_a_saved_adapter_loads(make_module, tmp_path):
    """An adapter saved by diffusers loads, from its folder and from its weight file."""
    from animatediff.motion import describe, load

    module = make_module("v2")
    adapter_of(module).save_pretrained(tmp_path / "adapter")
    for path in (tmp_path / "adapter", tmp_path / "adapter" / "diffusion_pytorch_model.safetensors"):
        loaded = load(path)
        assert loaded.family == FAMILIES["v2"] == describe(path).family
        assert all(torch.equal(loaded.state_dict()[key], value) for key, value in module.state_dict().items())


def test_heads_come_from_the_adapters_config(make_module, tmp_path):
    from animatediff.motion import load

    diffusers.MotionAdapter(block_out_channels=(32,) * 4, motion_num_attention_heads=4).save_pretrained(tmp_path)
    assert load(tmp_path).heads == 4
