import numpy as np
import pytest
import torch

from animatediff.motion import FAMILIES
from animatediff.sampling import betas

SIGMA_MAX = {  # published values of σ at the last timestep
    "v1": 25.15, "v2": 25.15, "v3": 25.15, "LongAnimateDiff": 25.15, "AnimateLCM": 25.15, "HotShot-XL": 14.61,
    "AnimateDiff-SDXL": 65.93,
}


@pytest.mark.parametrize("name", SIGMA_MAX)
def test_sigma_max_of_each_family(name):
    assert betas.sigmas(FAMILIES[name].betas)[-1].item() == pytest.approx(SIGMA_MAX[name], abs=0.01)


@pytest.mark.parametrize("name", SIGMA_MAX)
def test_alphas_cumprod_parity_with_numpy_longdouble(name):
    schedule = FAMILIES[name].betas
    t = np.arange(1000, dtype=np.longdouble) / 999
    a, b = np.longdouble(schedule.start), np.longdouble(schedule.end)
    beta = a + (b - a) * t if schedule.kind == "linear" else (a**0.5 + (b**0.5 - a**0.5) * t) ** 2
    got = betas.alphas_cumprod(schedule)
    assert got.dtype == torch.float32 and got.shape == (1000,)
    np.testing.assert_allclose(got.numpy(), np.cumprod(1 - beta).astype(np.float32), rtol=2e-7)
