from types import SimpleNamespace

import numpy as np
import pytest
import torch

from animatediff.sampling import betas

TABLE = [  # kind, start, end, the noise at the last step as the facts sheet has it
    ("linear", 0.00085, 0.012, 25.15),
    ("scaled linear", 0.00085, 0.012, 14.61),
    ("scaled_linear", 0.00085, 0.020, 65.93),
    ("linear", 0.00085, 0.014, 41.67),
]


@pytest.mark.parametrize("kind, start, end, sigma_max", TABLE)
def test_sigma_max(kind, start, end, sigma_max):
    schedule = SimpleNamespace(kind=kind, start=start, end=end)
    assert betas.sigmas(schedule)[-1].item() == pytest.approx(sigma_max, abs=0.01)


@pytest.mark.parametrize("kind, start, end, sigma_max", TABLE)
def test_against_plain_numpy_in_longdouble(kind, start, end, sigma_max):
    t = np.arange(1000, dtype=np.longdouble) / 999
    a, b = np.longdouble(start), np.longdouble(end)
    beta = a + (b - a) * t if kind == "linear" else (a**0.5 + (b**0.5 - a**0.5) * t) ** 2
    expected = np.cumprod(1 - beta)
    got = betas.alphas_cumprod(SimpleNamespace(kind=kind, start=start, end=end))
    assert got.dtype == torch.float32 and got.shape == (1000,)
    np.testing.assert_allclose(got.numpy(), expected.astype(np.float32), rtol=2e-7)


def test_unknown_schedule():
    with pytest.raises(ValueError, match="cosine"):
        betas.betas(SimpleNamespace(kind="cosine", start=0, end=1))
