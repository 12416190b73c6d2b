"""Temporarily move a motion module to another device and dtype."""
from __future__ import annotations

import pytest
import torch

from animatediff.motion.moving import on_device


@pytest.mark.parametrize("ends", ["well", "with an error"])
def test_the_original_tensors_are_restored(make_module, ends):
    module = make_module("v2")
    before = {name: (value, value.data_ptr(), value.clone())
              for name, value in module.state_dict(keep_vars=True).items()}
    site = module.down_blocks[0].motion_modules[0].temporal_transformer
    try:
        with on_device(module, "cpu", torch.bfloat16), torch.no_grad():
            assert all(value.dtype == torch.bfloat16 for value in module.state_dict().values())
            assert site(torch.randn(4, 32, 3, 3).bfloat16(), 4).isfinite().all()
            if ends != "well":
                raise RuntimeError
    except RuntimeError:
        pass
    after = module.state_dict(keep_vars=True)
    assert after.keys() == before.keys()
    for name, (value, address, copy) in before.items():
        assert after[name] is value and value.data_ptr() == address and torch.equal(value, copy), name


def test_tensors_that_are_already_there_are_not_moved(make_module):
    module = make_module("v3")
    addresses = [value.data_ptr() for value in module.state_dict().values()]
    with on_device(module, "cpu", torch.float32):
        assert addresses == [value.data_ptr() for value in module.state_dict().values()]
