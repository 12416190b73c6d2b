"""The motion module on a CUDA device, with and without Triton kernels: results, grid limits and memory afterwards."""
from __future__ import annotations

import copy
from contextlib import nullcontext

import pytest
import torch
from conftest import TEXT, diffusers_unet
from test_packed import float64_result, transformer

from animatediff.attribute import attribute
from animatediff.layout import ClipLayout
from animatediff.motion import choice, injected

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
EXACT = {torch.float32: 2e-6, torch.bfloat16: 2e-2, torch.float16: 3e-3}


@pytest.fixture(params=["kernels", "torch's operators"])
def backend(request):
    with attribute(choice, "DEVICES", ()) if request.param != "kernels" else nullcontext():
        yield request.param


@pytest.mark.parametrize("dtype", list(EXACT))
@pytest.mark.parametrize("frames", [1, 7, 16, 24])
def test_result_is_that_of_float64(backend, dtype, frames):
    site = transformer(320, dtype)
    x = torch.randn(2 * frames, 320, 5, 9).to(dtype)
    scale, effect = torch.rand(2, frames, 5, 9) + 0.5
    exact = float64_result(site, x, frames, scale, effect)
    with torch.no_grad():
        found = site.cuda()(x.cuda(), frames, scale, effect)
    assert (site.fused is not None) == (backend == "kernels" and dtype != torch.float32)
    assert (found.double().cpu() - exact).abs().max() <= EXACT[dtype] * exact.abs().max()


@torch.no_grad()
def test_more_positions_than_a_cuda_grid(backend):
    """Heads times positions exceed the grid limit of 65,535, and so do positions alone at 192×192 with guidance."""
    site, x = transformer(64, torch.float16).cuda(), torch.randn(4, 64, 192, 192).half().cuda()
    whole, halves = site(x, 2), torch.cat([site(clip, 2) for clip in x.split(2)])
    torch.testing.assert_close(whole, halves, rtol=2e-3, atol=4e-3)


@pytest.mark.parametrize("family", ["v2", "v3", "AnimateDiff-SDXL"])
@torch.no_grad()
def test_a_pass_leaves_unet_and_memory_unchanged(backend, make_module, family):
    """Afterwards the plain UNet's output is the same bit for bit, and no more memory is allocated."""
    module = make_module(family).half().cuda()
    unet = diffusers_unet(module.family.base).half().cuda().eval()
    x = torch.randn(8, 4, 8, 8).half().cuda()
    text = torch.randn(8, 5, TEXT).half().cuda()
    before = unet(x, 9, text).sample
    torch.cuda.synchronize()
    taken = torch.cuda.memory_allocated()
    with injected(unet, module, lambda rows: ClipLayout.contiguous(4, rows // 4)):
        moved = unet(x, 9, text).sample
    module.release()
    assert not torch.equal(moved, before) and torch.equal(unet(x, 9, text).sample, before)
    del moved
    assert torch.cuda.memory_allocated() <= taken + 2**21  # the weights of queries, keys and values move


@torch.no_grad()
def test_copies_do_not_contain_the_kernels_data():
    site, x = transformer(64, torch.float16).cuda(), torch.randn(8, 64, 4, 4).half().cuda()
    expected = site(x, 4)
    other = copy.deepcopy(site)
    assert site.fused is not None and other.fused is None and torch.equal(other(x, 4), expected)
