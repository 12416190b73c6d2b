"""A module that is somewhere else, and in another precision, for a while."""
from __future__ import annotations

import pytest
import torch

from animatediff.motion.moving import on_device


@pytest.mark.parametrize("ends", ["well", "with an error"])
def test_the_tensors_of_before_come_back(make_module, ends):
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
    for name, (value, place, number) in before.items():
        assert after[name] is value and value.data_ptr() == place and torch.equal(value, number), name


def test_what_is_there_already_is_not_touched(make_module):
    module = make_module("v3")
    places = [value.data_ptr() for value in module.state_dict().values()]
    with on_device(module, "cpu", torch.float32):
        assert places == [value.data_ptr() for value in module.state_dict().values()]
