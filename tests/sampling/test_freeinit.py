"""FreeInit, compared with the authors' formulas in plain loops, with diffusers, and with the definition of the DFT."""
from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as budget
from hypothesis import strategies as st

from animatediff.sampling import freeinit
from animatediff.settings import FREEINIT_FILTERS, Settings

EVEN = [(16, 8, 8), (8, 6, 12), (2, 4, 10), (24, 12, 4)]
STOPS = [(0.25, 0.25), (0.3, 0.7), (0.9, 0.1), (1, 1), (0.5, 0), (0, 0.5)]
SIZES = st.tuples(*[st.integers(1, 9)] * 3)
SHARES = st.floats(0.01, 1)


def by_loops(kind, shape, d_s, d_t, n=4):
    """Return the authors' filter for even sizes, except that the box has each side's own size."""
    mask = np.zeros(shape)
    if d_s == 0 or d_t == 0:
        return mask
    if kind == "box":
        starts = [round(size // 2 * d) for size, d in zip(shape, (d_t, d_s, d_s))]
        mask[tuple(slice(size // 2 - end, size // 2 + end) for size, end in zip(shape, starts))] = 1
        return mask
    frames, height, width = shape
    for t in range(frames):
        for h in range(height):
            for w in range(width):
                d2 = (d_s / d_t * (2 * t / frames - 1)) ** 2 + (2 * h / height - 1) ** 2 + (2 * w / width - 1) ** 2
                mask[t, h, w] = {"gaussian": math.exp(-d2 / (2 * d_s**2)), "ideal": float(d2 <= 2 * d_s),
                                 "butterworth": 1 / (1 + (d2 / d_s**2) ** n)}[kind]
    return mask


def at_frequencies(mask):
    """Return {(kt, kh, kw): value}, with the integer frequencies of numpy's fftfreq."""
    axes = [np.fft.fftshift(np.fft.fftfreq(size, 1 / size)).round().astype(int).tolist() for size in mask.shape]
    return {(a, b, c): float(mask[i, j, k]) for i, a in enumerate(axes[0]) for j, b in enumerate(axes[1])
            for k, c in enumerate(axes[2])}


@pytest.mark.parametrize("stops", STOPS)
@pytest.mark.parametrize("shape", EVEN)
@pytest.mark.parametrize("kind", FREEINIT_FILTERS)
def test_filter_parity_with_the_authors_formulas(kind, shape, stops):
    found = freeinit.low_pass(kind, shape, *stops)
    assert found.dtype == torch.float64 and found.shape == shape
    np.testing.assert_allclose(found.numpy(), by_loops(kind, shape, *stops), rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize("order", [1, 2, 20])
def test_order_of_the_butterworth_filter(order):
    found = freeinit.low_pass("butterworth", (8, 8, 8), 0.4, 0.2, order)
    np.testing.assert_allclose(found.numpy(), by_loops("butterworth", (8, 8, 8), 0.4, 0.2, order), rtol=1e-12)


@pytest.mark.parametrize("kind", ["butterworth", "gaussian", "ideal"])
def test_filter_parity_with_diffusers_except_for_its_odd_sizes(kind):
    mixin = pytest.importorskip("diffusers.pipelines.free_init_utils").FreeInitMixin()

    def theirs(shape):
        return mixin._get_free_init_freq_filter((1, 4, *shape), "cpu", kind, 4, 0.3, 0.4)[0, 0]

    for shape in EVEN:
        torch.testing.assert_close(freeinit.low_pass(kind, shape, 0.3, 0.4).float(), theirs(shape))
    odd = (3, 5, 5)
    assert at_frequencies(freeinit.low_pass(kind, odd, 0.3, 0.4))[0, 0, 0] == 1
    assert not torch.equal(theirs(odd), theirs(odd).flip(0, 1, 2))


@budget(max_examples=60, deadline=None)
@given(kind=st.sampled_from(FREEINIT_FILTERS), shape=SIZES, d_s=SHARES, d_t=SHARES, order=st.integers(1, 20))
def test_filters_keep_low_frequencies_more_than_high_ones(kind, shape, d_s, d_t, order):
    values = at_frequencies(freeinit.low_pass(kind, shape, d_s, d_t, order))
    assert all(0 <= value <= 1 for value in values.values())
    if kind == "box":
        return
    assert values[0, 0, 0] == 1
    for place, value in values.items():
        mirrored = values.get(tuple(-k for k in place), value)  # symmetric, so that a real signal stays real
        assert value == pytest.approx(mirrored, rel=1e-12)
        nearer = tuple(k - (k > 0) + (k < 0) for k in place)
        assert value <= values[nearer]


def test_extreme_stop_frequencies_give_finite_filters():
    for kind in FREEINIT_FILTERS:
        for stops in ((1e-300, 1), (1, 1e-300), (5e-324, 5e-324)):
            assert torch.isfinite(freeinit.low_pass(kind, (4, 4, 4), *stops, 20)).all()


# -- mixing ------------------------------------------------------------------------------------------------------------


def clip(seed, shape=(6, 4, 4, 8)):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def transform(sizes, x, inverse=False):
    """Return the discrete Fourier transform of [f c h w] over f, h and w, by its definition, in complex128."""
    sign = 2j if inverse else -2j
    for axis, size in zip((0, 2, 3), sizes):
        k = np.arange(size)
        matrix = np.exp(sign * np.pi * np.outer(k, k) / size) / (size if inverse else 1)
        x = np.moveaxis(np.tensordot(matrix, x, (1, axis)), 0, axis)
    return x


@pytest.mark.parametrize("kind", FREEINIT_FILTERS)
@pytest.mark.parametrize("shape", [(6, 4, 4, 8), (5, 4, 3, 7), (1, 4, 8, 8)])
def test_mixing_parity_with_the_definition(kind, shape):
    low, high = clip(0, shape), clip(1, shape)
    keep = freeinit.low_pass(kind, (shape[0], *shape[2:]), 0.6, 0.5)
    at = at_frequencies(keep)
    sizes = (shape[0], *shape[2:])
    mask = np.zeros(sizes)
    for place, value in at.items():
        mask[place] = value  # frequency -1 is the last index, as in the transform
    spectra = [transform(sizes, x.double().numpy().astype(complex)) for x in (low, high)]
    expected = transform(sizes, spectra[0] * mask[:, None] + spectra[1] * (1 - mask[:, None]), inverse=True).real
    found = freeinit.mixed(low, high, keep)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-6)


def test_mixing_parity_with_diffusers():
    mixin = pytest.importorskip("diffusers.pipelines.free_init_utils").FreeInitMixin()
    low, high = clip(0), clip(1)
    keep = freeinit.low_pass("butterworth", (6, 4, 8), 0.4, 0.6)
    theirs = mixin._apply_freq_filter(low.transpose(0, 1)[None], high.transpose(0, 1)[None], keep.float())
    torch.testing.assert_close(freeinit.mixed(low, high, keep), theirs[0].transpose(0, 1), atol=1e-6, rtol=1e-5)


def test_filters_of_ones_and_zeros_return_one_input():
    low, high = clip(0), clip(1)
    ones = torch.ones(6, 4, 8, dtype=torch.float64)
    torch.testing.assert_close(freeinit.mixed(low, high, ones), low, atol=1e-6, rtol=0)
    torch.testing.assert_close(freeinit.mixed(low, high, 0 * ones), high, atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", FREEINIT_FILTERS)
def test_variance_and_mean_of_mixed_noise(kind):
    """By Parseval's theorem the variance is the mean of |F|² + |1 − F|². The channels' means are those of `low`."""
    shape = (16, 4, 32, 32)
    low, high = clip(0, shape), clip(1, shape)
    keep = freeinit.low_pass(kind, (16, 32, 32))
    found = freeinit.mixed(low, high, keep)
    expected = float((keep**2 + (1 - keep) ** 2).mean())
    assert float(found.var()) == pytest.approx(expected, abs=0.02) and 0.9 < expected <= 1
    torch.testing.assert_close(found.mean((0, 2, 3)), low.mean((0, 2, 3)), atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes_are_mixed_in_float32(dtype):
    low, high, keep = clip(0).to(dtype), clip(1).to(dtype), freeinit.low_pass("gaussian", (6, 4, 8))
    assert torch.equal(freeinit.mixed(low, high, keep), freeinit.mixed(low.float(), high.float(), keep))


# -- diffusing the clip ------------------------------------------------------------------------------------------------


def test_diffused_parity_with_diffusers_ddim_scheduler():
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DDIMScheduler(beta_schedule="linear", beta_start=0.00085, beta_end=0.012)
    x, noise = clip(0), clip(1)
    theirs = scheduler.add_noise(x, noise, torch.full((6,), 999))
    torch.testing.assert_close(freeinit.diffused(x, noise, float(scheduler.alphas_cumprod[-1])), theirs)


def test_diffused_over_a_picture_starts_from_the_clip():
    picture, x, noise, sigma = clip(2), clip(0), clip(1), 1.7
    seen = freeinit.diffused_over(picture, x, noise, sigma)
    torch.testing.assert_close(picture + sigma * seen, x + sigma * noise, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(freeinit.diffused_over(picture, picture, noise, sigma), noise)


def test_diffused_over_zeros_equals_diffused_except_for_the_scale():
    x, noise, alpha = clip(0), clip(1), 0.0047
    sigma = ((1 - alpha) / alpha) ** 0.5
    expected = freeinit.diffused(x, noise, alpha) / (1 - alpha) ** 0.5
    torch.testing.assert_close(freeinit.diffused_over(torch.zeros_like(x), x, noise, sigma), expected)


def test_renewed_noise_uses_the_settings_filter():
    settings = Settings(freeinit_filter="box", freeinit_d_s=0.5, freeinit_d_t=0.3, freeinit_order=2)
    last, first, fresh, picture = (clip(i) for i in range(4))
    keep = freeinit.low_pass("box", (6, 4, 8), 0.5, 0.3)
    for seen, more in ((freeinit.diffused(last, first, 0.5), (0.5,)),
                       (freeinit.diffused_over(picture, last, first, 3.0), (3.0, picture))):
        renewed = freeinit.renewed(settings, last, first, fresh, *more)
        assert torch.equal(renewed, freeinit.mixed(seen, fresh, keep))


# -- steps -------------------------------------------------------------------------------------------------------------


@budget(max_examples=200, deadline=None)
@given(steps=st.integers(1, 200), iterations=st.integers(1, 20))
def test_steps_of_fast_sampling_match_diffusers(steps, iterations):
    """Rounding in diffusers may lose a step. Here the last iteration always has all steps."""
    ours = Settings(freeinit_iterations=iterations, freeinit_fast=True).iterations(steps)
    theirs = [max(1, int(steps / iterations * (i + 1))) for i in range(iterations)]
    assert all(0 <= a - b <= 1 for a, b in zip(ours, theirs)) and len(ours) == iterations and ours[-1] == steps
    assert ours == sorted(ours)
    assert Settings(freeinit_iterations=iterations).iterations(steps) == [steps] * iterations


def test_steps_of_fast_sampling_in_an_example():
    assert Settings(freeinit_iterations=3, freeinit_fast=True).iterations(20) == [6, 13, 20]
    mixin = pytest.importorskip("diffusers.pipelines.free_init_utils").FreeInitMixin()
    mixin.enable_free_init(num_iters=3, use_fast_sampling=True)
    counts = []
    mixin.scheduler = SimpleNamespace(config=SimpleNamespace(num_train_timesteps=1000), timesteps=None,
                                      set_timesteps=lambda n, device: counts.append(n),
                                      add_noise=lambda original_samples, noise, timesteps: original_samples)
    for i in range(3):
        mixin._apply_free_init(torch.zeros(1, 4, 2, 2, 2), i, 20, "cpu", torch.float32, None)
    assert counts == [6, 13, 20]
