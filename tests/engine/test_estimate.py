"""The memory of a trial against closed forms, and an estimate that grows as the run does."""
from __future__ import annotations

import pytest
import torch
from torch import nn

from animatediff.engine.estimate import LiveBytes, estimate
from animatediff.engine.pipeline import Pipeline
from animatediff.settings import Settings

pytest.importorskip("diffusers")


def most(work):
    with LiveBytes(nn.Linear(4, 4)) as live:
        work()
    return live.most


def test_bytes_that_are_live_at_once():
    kb = 1024

    def chain():  # at most an input and an output at once
        x = torch.zeros(256)
        for _ in range(5):
            x = x + 1

    def kept():
        return [torch.zeros(256) for _ in range(5)]

    assert most(chain) == 2 * kb and most(kept) == 5 * kb
    assert most(lambda: torch.zeros(256).view(16, 16).t()[2:]) == kb, "views take nothing"
    assert most(lambda: [torch.zeros(256).double(), torch.zeros(2)]) == 3 * kb


def test_weights_do_not_count():
    network = nn.Linear(256, 256, bias=False)
    with LiveBytes(network) as live, torch.no_grad():
        network(torch.zeros(1, 256))
    assert live.most == 2 * 1024


def test_an_estimate_grows_with_the_run(tiny):
    pipeline = Pipeline.load(tiny.checkpoint, tiny.module, device="cpu", dtype="fp32")
    before = {key: value.clone() for key, value in pipeline.unet.state_dict().items()}
    small, large = (pipeline.plan(Settings(enable=True, prompt="x", frames=4, steps=2, size=size, seed=1))
                    for size in ("64x64", "256x256"))
    estimate(pipeline, small, 2)  # the first call packs the weights
    found = [estimate(pipeline, plan, calls) for plan, calls in ((small, 2), (small, 2000), (large, 2))]
    assert found[1].seconds > 50 * found[0].seconds and found[1].memory == found[0].memory
    assert found[2].memory > found[0].memory and str(found[0]).startswith("about")
    assert all(torch.equal(value, before[key]) for key, value in pipeline.unet.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in pipeline.unet.modules())
