import pytest
import torch
from hypothesis import given
from hypothesis import settings as budget
from hypothesis import strategies as st

from animatediff.sampling import noise

SHAPE = (6, 4, 3, 5)


def drawn(kind, seed=7, context=4, times=1):
    sources = noise.generators(kind, seed, SHAPE[0], context)
    return [noise.draw(sources, SHAPE) for _ in range(times)]


def plain(seed):
    return torch.randn(4, 3, 5, generator=torch.Generator("cpu").manual_seed(seed))


def test_per_frame_has_the_webuis_seeds():
    (x,) = drawn("per frame")
    assert torch.equal(x, torch.stack([plain(7 + i) for i in range(6)]))


def test_per_clip_draws_from_one_generator():
    (x,) = drawn("per clip")
    assert torch.equal(x, torch.randn(SHAPE, generator=torch.Generator("cpu").manual_seed(7)))


def test_constant_and_repeated_context():
    (x,) = drawn("constant")
    assert torch.equal(x, plain(7).expand(SHAPE))
    (x,) = drawn("repeated context")
    assert torch.equal(x, torch.stack([plain(7 + i) for i in (0, 1, 2, 3, 0, 1)]))


@pytest.mark.parametrize("kind", noise.KINDS)
def test_kinds_are_normal_and_reproducible_and_draw_new_noise_each_time(kind):
    first, second = drawn(kind, times=2)
    again = drawn(kind, times=2)
    assert torch.equal(first, again[0]) and torch.equal(second, again[1])
    assert not torch.equal(first, second)
    assert not torch.equal(first, drawn(kind, seed=8)[0])
    big = noise.draw(noise.generators(kind, 0, 4, 2), (4, 4, 64, 64))
    assert abs(big.mean()) < 0.03 and abs(big.std() - 1) < 0.03


def test_noise_of_a_frame_does_not_depend_on_the_clips_length():
    short = noise.draw(noise.generators("per frame", 3, 2, 16), (2, 4, 8, 8))
    long = noise.draw(noise.generators("per frame", 3, 9, 16), (9, 4, 8, 8))
    assert torch.equal(short, long[:2])


def test_seeds_above_the_largest_wrap():
    x = noise.draw(noise.generators("per frame", 2**64 - 1, 2, 16), (2, 4, 1, 1))
    assert torch.isfinite(x).all()


def test_number_of_generators_must_match_the_frames():
    with pytest.raises(ValueError, match="5 frames"):
        noise.draw(noise.generators("per frame", 0, 6, 16), (5, 4, 1, 1))


# -- FreeNoise ---------------------------------------------------------------------------------------------------------

CLIPS = st.integers(1, 12).flatmap(lambda context: st.tuples(
    st.integers(1, 60), st.just(context), st.integers(1, context), st.integers(0, 2**63)))


@budget(max_examples=150, deadline=None)
@given(CLIPS)
def test_free_noise_shuffles_the_first_window(clip):
    frames, context, stride, seed = clip
    sources = noise.shuffled(frames, context, stride, torch.Generator().manual_seed(seed))
    assert len(sources) == frames and sources[:context] == list(range(min(frames, context)))
    for start in range(0, frames - context + 1, stride):
        assert sorted(sources[start:start + context]) == list(range(context)), "a permutation of the base noise"
    for start in range(0, frames - context, stride):
        part, before = sources[start + context:start + context + stride], sources[start:start + stride]
        assert len(set(part)) == len(part) and set(part) <= set(before)
        assert sorted(part) == sorted(before) or start + context + stride > frames, "only the last one is cut"


@pytest.mark.parametrize("frames, context, stride", [(40, 16, 4), (33, 8, 6), (20, 16, 16), (64, 16, 12), (9, 16, 4)])
def test_free_noise_parity_with_diffusers(frames, context, stride):
    """Compared with shuffle_context, with the same base noise and the same generator."""
    utils = pytest.importorskip("diffusers.pipelines.free_noise_utils")
    mixin = utils.AnimateDiffFreeNoiseMixin()
    mixin.vae_scale_factor = 1
    mixin._free_noise_noise_type = "shuffle_context"
    mixin._free_noise_context_length, mixin._free_noise_context_stride = context, stride
    theirs = mixin._prepare_latents_free_noise(1, 4, frames, 3, 3, torch.float32, torch.device("cpu"),
                                               torch.Generator().manual_seed(5))[0].transpose(0, 1)
    order = torch.Generator().manual_seed(5)
    base = torch.randn(1, 4, frames, 3, 3, generator=order)[0].transpose(0, 1)
    assert torch.equal(base[noise.shuffled(frames, context, stride, order)], theirs)


def test_free_noise_in_a_clip():
    seeds = noise.KINDS["FreeNoise"](7, 20, 8, 2)
    assert seeds[:8] == list(range(7, 15)) and set(seeds) == set(seeds[:8])
    assert sorted(seeds[8:14]) == seeds[:6], "a permutation for the next window, which begins 6 frames later"
    assert seeds == noise.KINDS["FreeNoise"](7, 20, 8, 2)
    others = {tuple(s - seed for s in noise.KINDS["FreeNoise"](seed, 20, 8, 2)) for seed in range(8)}
    assert len(others) > 1, "the order depends on the seed"
    sources = noise.generators("FreeNoise", 7, 20, 8, 2)
    x, step = (noise.draw(sources, (20, 4, 3, 5)) for _ in range(2))
    assert torch.equal(x, torch.stack([plain(seed) for seed in seeds]))
    assert torch.equal(step[8:14], step[[s - 7 for s in seeds[8:14]]]), "noise of later steps has the same order"


def test_free_noise_of_the_largest_seed():
    assert torch.isfinite(noise.draw(noise.generators("FreeNoise", 2**64 - 1, 9, 4, 1), (9, 4, 1, 1))).all()


def test_free_noise_of_one_window_is_per_frame():
    assert noise.KINDS["FreeNoise"](7, 6, 16, 4) == noise.KINDS["per frame"](7, 6, 16, 4)
