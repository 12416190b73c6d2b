"""Interpolation between two prompts' conditionings, compared with closed forms in float64."""
from __future__ import annotations

import numpy as np
import pytest
import torch

from animatediff import travel
from animatediff.sampling.mixing import TravellingPrompt, lerp, slerp


def random(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_slerp_parity_with_the_closed_form(share):
    a, b = random(0, 77, 16), random(1, 77, 16) * 3
    x, y = a.double().numpy(), b.double().numpy()
    angle = np.arccos((x * y).sum() / np.linalg.norm(x) / np.linalg.norm(y))
    expected = (np.sin((1 - share) * angle) * x + np.sin(share * angle) * y) / np.sin(angle)
    np.testing.assert_allclose(slerp(a, b, share).numpy(), expected, atol=1e-5)


def test_slerp_keeps_the_length_of_unit_vectors_and_turns_evenly():
    a, b = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    for share in (0.25, 1 / 3, 0.5):
        np.testing.assert_allclose(slerp(a, b, share), [np.cos(share * np.pi / 2), np.sin(share * np.pi / 2)],
                                   atol=1e-6)


@pytest.mark.parametrize("b", [random(0, 40) * 2, -random(0, 40), torch.zeros(40), random(0, 40) + 1e-4])
def test_slerp_of_parallel_and_zero_tensors_is_linear(b):
    a = random(0, 40)
    torch.testing.assert_close(slerp(a, b, 0.25), 0.75 * a + 0.25 * b)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_mixed_in_float32(dtype):
    a, b = random(0, 77, 768), random(1, 77, 768)
    for mix in (slerp, lerp):
        got = mix(a.to(dtype), b.to(dtype), 0.3)
        assert got.dtype == dtype
        torch.testing.assert_close(got.float(), mix(a, b, 0.3), atol=2e-2, rtol=2e-2)


def test_conditioning_of_a_window():
    schedule = travel.schedule("0: a\n4: b\n5: a", 8, travel.Options(interpolation="linear"))
    a, b = random(0, 3, 2), random(1, 3, 2)
    prompt = TravellingPrompt(schedule, torch.stack([a, b]))
    torch.testing.assert_close(prompt.of((7, 1, 4)), torch.stack([a, 0.75 * a + 0.25 * b, b]))
    still = TravellingPrompt(travel.schedule("a", 8), a[None])
    assert still.of(range(8)).shape == (8, 3, 2) and still.of(range(8)).stride(0) == 0, "no copies of one prompt"
