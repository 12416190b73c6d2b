import pytest
import torch

from animatediff.sampling import noise

SHAPE = (6, 4, 3, 5)


def drawn(kind, seed=7, context=4, times=1):
    sources = noise.generators(kind, seed, SHAPE[0], context)
    return [noise.draw(sources, SHAPE) for _ in range(times)]


def plain(seed):
    return torch.randn(4, 3, 5, generator=torch.Generator("cpu").manual_seed(seed))


def test_per_frame_is_the_webuis_seed_plus_i():
    (x,) = drawn("per frame")
    assert torch.equal(x, torch.stack([plain(7 + i) for i in range(6)]))


def test_per_clip_is_one_generator():
    (x,) = drawn("per clip")
    assert torch.equal(x, torch.randn(SHAPE, generator=torch.Generator("cpu").manual_seed(7)))


def test_constant_and_repeated():
    (x,) = drawn("constant")
    assert torch.equal(x, plain(7).expand(SHAPE))
    (x,) = drawn("repeated context")
    assert torch.equal(x, torch.stack([plain(7 + i) for i in (0, 1, 2, 3, 0, 1)]))


@pytest.mark.parametrize("kind", noise.KINDS)
def test_every_kind_is_normal_reproducible_and_goes_on(kind):
    first, second = drawn(kind, times=2)
    again = drawn(kind, times=2)
    assert torch.equal(first, again[0]) and torch.equal(second, again[1])
    assert not torch.equal(first, second)
    assert not torch.equal(first, drawn(kind, seed=8)[0])
    big = noise.draw(noise.generators(kind, 0, 4, 2), (4, 4, 64, 64))
    assert abs(big.mean()) < 0.03 and abs(big.std() - 1) < 0.03


def test_a_frames_noise_does_not_depend_on_the_length_of_the_clip():
    short = noise.draw(noise.generators("per frame", 3, 2, 16), (2, 4, 8, 8))
    long = noise.draw(noise.generators("per frame", 3, 9, 16), (9, 4, 8, 8))
    assert torch.equal(short, long[:2])


def test_largest_seed_wraps_instead_of_failing():
    x = noise.draw(noise.generators("per frame", 2**64 - 1, 2, 16), (2, 4, 1, 1))
    assert torch.isfinite(x).all()


def test_generators_and_frames_must_agree():
    with pytest.raises(ValueError, match="5 frames"):
        noise.draw(noise.generators("per frame", 0, 6, 16), (5, 4, 1, 1))
