"""SD1.5 and a v2 motion module at full size with random weights, against diffusers' model with the same weights."""
from __future__ import annotations

import pytest
import torch

from animatediff.layout import ClipLayout
from animatediff.motion import injected

pytestmark = pytest.mark.fullsize  # takes a minute and 10 GB
FRAMES, CLIPS = 6, 2


@pytest.fixture(scope="module")
def networks():
    pytest.importorskip("diffusers")
    from benchmarks import unet_step

    unet, module = unet_step.networks(unet_step.Plan())
    return unet, module, unet_step.same_in_diffusers(unet, module)


@pytest.mark.usefixtures("tiling")
@torch.no_grad()
def test_agrees_with_diffusers_and_leaves_nothing(networks):
    """diffusers computes the module's GroupNorm over all frames of a clip, so this test sets ours to do the same."""
    from benchmarks.unet_step import norm_over_frames

    unet, module, other = networks
    random = torch.Generator().manual_seed(1)
    x = torch.randn(CLIPS * FRAMES, 4, 8, 8, generator=random)
    text = torch.randn(CLIPS, 77, 768, generator=random).repeat_interleave(FRAMES, 0)
    video = x.unflatten(0, (CLIPS, FRAMES)).transpose(1, 2)
    expected = other(video, 321, text).sample.transpose(1, 2).reshape(x.shape)
    before, weights = unet(x, 321, text).sample, {name: value.clone() for name, value in module.state_dict().items()}
    with norm_over_frames(module), injected(unet, module, lambda rows: ClipLayout.contiguous(FRAMES, rows // FRAMES)):
        found = unet(x, 321, text).sample
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert (before - expected).abs().max() > 0.1 * expected.abs().max()
    module.release()
    assert torch.equal(unet(x, 321, text).sample, before)
    assert not any(part._forward_hooks or "forward" in vars(part) for part in unet.modules())
    after = module.state_dict()
    assert after.keys() == weights.keys() and all(torch.equal(after[name], value) for name, value in weights.items())
