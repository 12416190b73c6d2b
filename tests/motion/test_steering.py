"""Motion scale and effect against a closed form in float64 and against scaled weights, and that nothing is left."""
from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as budget
from hypothesis import strategies as st
from PIL import Image

from animatediff.curves import Curve
from animatediff.layout import ClipLayout
from animatediff.motion import Mask, Steering, injected, transformer
from animatediff.motion.layers import TemporalAttention
from animatediff.settings import Settings

RANDOM = torch.Generator().manual_seed(5)


def rand(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=RANDOM)


def site_of(module):
    return module.down_blocks[1].motion_modules[0].temporal_transformer


def keys_scaled(module, s: float):
    """Return a copy whose to_k weights are multiplied by s, which is the same as scaling the keys by s."""
    scaled = copy.deepcopy(module)
    for name, p in scaled.named_parameters():
        if name.endswith("to_k.weight"):
            p.mul_(s)
    return scaled


def steering(**settings) -> Steering | None:
    mask = settings.pop("mask", None)
    return Steering.of(Settings(**settings), 6, mask)


def attention_in_float64(a: TemporalAttention, x: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Return the attention of x [b f c] in float64. scale: [b f], by the frame of the key."""
    w = {name: p.double().numpy() for name, p in a.state_dict().items()}
    x = x + w["pos_encoder.pe"][0, :x.shape[1]]
    q, k, v = (np.einsum("bfc,dc->bfd", x, w[f"to_{n}.weight"]) for n in "qkv")
    k = k * scale[..., None]
    q, k, v = (np.moveaxis(t.reshape(*t.shape[:2], a.heads, -1), 2, 1) for t in (q, k, v))
    scores = np.einsum("bhfd,bhgd->bhfg", q, k) / np.sqrt(q.shape[-1])
    shares = np.exp(scores - scores.max(-1, keepdims=True))
    out = np.einsum("bhfg,bhgd->bhfd", shares / shares.sum(-1, keepdims=True), v)
    return np.moveaxis(out, 1, 2).reshape(x.shape) @ w["to_out.0.weight"].T + w["to_out.0.bias"]


def test_one_attention_with_a_scale_for_each_position_and_frame(make_module):
    attention = site_of(make_module("v2")).transformer_blocks[0].attention_blocks[0]
    x, scale = rand(5, 6, 64), torch.rand(5, 6, generator=RANDOM) * 2
    with torch.no_grad():
        found = attention(x, scale).double().numpy()
        reversed_scale = attention(x, scale.flip(1)).double().numpy()
    expected = attention_in_float64(attention, x.double().numpy(), scale.double().numpy())
    assert np.abs(found - expected).max() < 1e-5 < 1e-2 < np.abs(reversed_scale - expected).max()


@pytest.mark.parametrize("name", ["v1", "v2", "v3", "AnimateLCM", "AnimateDiff-SDXL", "HotShot-XL"])
@pytest.mark.parametrize("s", [0.0, 0.4, 1.28, 3.0])
def test_a_constant_scale_equals_scaled_weights(name, s, make_module):
    module, x = make_module(name), rand(12, 64, 3, 5)
    with torch.no_grad():
        expected = site_of(keys_scaled(module, s))(x, 6)
        found = site_of(module)(x, 6, s)
        spread = site_of(module)(x, 6, torch.full((6, 3, 5), s))
        assert (expected - site_of(module)(x, 6)).abs().max() > 1e-2
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(spread, expected, rtol=0, atol=1e-5)


def test_scaled_keys_agree_with_diffusers_with_scaled_weights(make_module, make_host, inputs, clips_of):
    diffusers = pytest.importorskip("diffusers")
    from dataclasses import replace

    from animatediff.motion import FAMILIES
    from animatediff.motion.naming import to_diffusers

    module = make_module(replace(FAMILIES["v2"], module_norm_over_frames=True))  # as diffusers does
    adapter = diffusers.MotionAdapter(block_out_channels=module.widths, motion_max_seq_length=module.max_frames)
    adapter.load_state_dict(to_diffusers(keys_scaled(module, 0.4).state_dict()))
    host, (x, text) = make_host("diffusers", "SD1.5"), inputs(12)
    with torch.no_grad():
        oracle = diffusers.UNetMotionModel.from_unet2d(host.unet, adapter).eval()
        expected = oracle(x.view(2, 6, 4, 8, 8).transpose(1, 2), 321, text).sample.transpose(1, 2).reshape(x.shape)
    found = run(host, module, clips_of(6), inputs(12), steering(motion_scale="0.4"))
    assert (found - expected).abs().max() <= 1e-5 * max(1, expected.abs().max())
    assert (run(host, module, clips_of(6), inputs(12), None) - expected).abs().max() > 1e-2


def run(host, module, layout_of, given, steered: Steering | None, step: int = 0, steps: int = 1):
    steer_of = steered and (lambda *site: steered.at(step, steps, *site))
    with injected(host.unet, module, layout_of, steer_of):
        return host(*given)


def test_scale_and_effect_of_1_change_nothing_bit_for_bit(host, inputs, make_module, clips_of):
    module = make_module("v2" if host.base == "SD1.5" else "AnimateDiff-SDXL")
    plain = run(host, module, clips_of(6), inputs(12), None)
    white = Mask([np.full((9, 7), 255, np.uint8)], (0,) * 6)
    ones = Steering((1.0,) * 6, (1.0,) * 6, Curve.read("1"), white)
    assert steering() is None and steering(motion_mask_min=1, mask=white) is None
    assert steering(mask=white) is not None
    for same in (ones, steering(mask=white), steering(motion_scale_steps="2, 1")):
        assert torch.equal(run(host, module, clips_of(6), inputs(12), same, 1, 2), plain)


def test_an_effect_of_0_gives_the_plain_unet(host, inputs, make_module, clips_of):
    given = inputs(12)
    module = make_module("v2" if host.base == "SD1.5" else "AnimateDiff-SDXL")
    assert torch.equal(run(host, module, clips_of(6), given, steering(motion_effect=0)), host(*given))


def test_effect_multiplies_the_change(make_module):
    site, x = site_of(make_module("v3")), rand(12, 64, 3, 5)
    effect_map = torch.rand(6, 3, 5, generator=RANDOM)
    with torch.no_grad():
        change = site(x, 6) - x
        for effect in (0.3, effect_map):
            found = site(x, 6, 1.0, effect)
            spread = effect[None, :, None].expand(2, 6, 64, 3, 5).reshape(x.shape) if isinstance(effect, torch.Tensor) \
                else 0.3
            torch.testing.assert_close(found, x + change * spread, rtol=0, atol=2e-6)


@budget(max_examples=25, deadline=None)
@given(st.integers(2, 7), st.integers(1, 6), st.integers(1, 6), st.integers(1, 3), st.integers(1, 40))
def test_scales_by_position_with_tiles_and_odd_sizes(frames, height, width, clips, tile):
    """Every position's result is as if it were computed alone with its own scales."""
    torch.manual_seed(frames * 31 + height * 7 + width)
    site = transformer.TemporalTransformer(32, 8, 8, True, False).eval()
    scale, x = torch.rand(frames, height, width) * 2, torch.randn(clips * frames, 32, height, width)
    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(transformer, "CPU_TILE_TOKENS", tile * frames)
        tokens = site.normed(x, frames).permute(0, 3, 1, 2)  # [clip (h w) frame c]
        found = site(x, frames, scale) - x
        found = found.view(clips, frames, 32, height * width)
        place, clip = height * width // 2, clips - 1
        alone = site.on_tokens(tokens[clip, place][None], scale.flatten(1)[:, place][None])[0]
    torch.testing.assert_close(found[clip, :, :, place], alone, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float16, 4e-3), (torch.bfloat16, 3e-2)])
def test_half_precision(dtype, tolerance, make_module):
    site, x = site_of(make_module("v2")), rand(6, 64, 4, 4)
    scale, effect = torch.rand(6, 4, 4, generator=RANDOM) * 2, torch.rand(6, 4, 4, generator=RANDOM)
    with torch.no_grad():
        expected = site(x, 6, scale, effect)
        found = site.to(dtype)(x.to(dtype), 6, scale, effect)
    assert found.dtype == dtype
    assert (found.float() - expected).abs().max() / expected.abs().max() < 4 * tolerance


@pytest.mark.slow
def test_frames_get_the_scales_of_their_numbers_in_the_clip(make_host, make_module, inputs):
    """The batch has two windows of different lengths, with rows out of order."""
    host, module, (x, text) = make_host("diffusers", "SD1.5"), make_module("v2"), inputs(7)
    layout = ClipLayout(groups=((5, 0, 3), (1, 6, 2, 4)), frames=((0, 1, 2), (2, 3, 4, 5)))
    steered = steering(motion_scale="0, 0.3, 0.6, 0.9, 1.2, 1.5")
    together = run(host, module, lambda rows: layout, (x, text), steered)
    for rows, numbers in zip(layout.groups, layout.frames):
        own = Steering.of(Settings(motion_scale=", ".join(f"{0.3 * i:g}" for i in numbers)), len(numbers))
        alone = run(host, module, ClipLayout.contiguous, (x[list(rows)], text[list(rows)]), own)
        torch.testing.assert_close(together[list(rows)], alone, rtol=0, atol=2e-4)
    assert (run(host, module, lambda rows: layout, (x, text), None) - together).abs().max() > 1e-2


def test_scales_of_the_steps_multiply():
    steered = steering(motion_scale="0: 1, 5: 2", motion_scale_steps="0%: 3, 100%: 1")
    for step, factor in ((0, 3), (5, 2), (10, 1)):
        scale, effect = steered.at(step, 11, (0, 5), 2, 3)
        assert effect == 1 and scale.shape == (2, 2, 3)
        torch.testing.assert_close(scale[:, 0, 0], torch.tensor([1.0, 2.0]) * factor)
    assert steering(motion_scale_steps="2, 3").at(9, 5, (1, 2), 4, 4) == (3, 1)  # one number: no tensor is made


@pytest.mark.parametrize("height, width", [(64, 64), (24, 40), (8, 8), (3, 5), (1, 1), (128, 96)])
def test_a_mask_is_resized_as_in_pillow(height, width):
    random = np.random.default_rng(1)
    picture = np.asarray(
        Image.fromarray(random.integers(0, 256, (9, 7), np.uint8)).resize((96, 72), Image.Resampling.BICUBIC))
    steered = steering(motion_mask_min=0.4, motion_mask_max=1.5, motion_scale="2", mask=Mask([picture], (0,) * 6))
    scale, _ = steered.at(0, 1, (0, 3), height, width)
    mask_share = np.asarray(
        Image.fromarray(picture.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR)) / 255
    assert scale.shape == (2, height, width)
    np.testing.assert_allclose(scale[1].numpy(), 2 * (0.4 + 1.1 * mask_share), atol=2e-3)


def test_each_frame_has_its_own_mask():
    black, white = np.zeros((2, 2), np.uint8), np.full((4, 4), 255, np.uint8)
    steered = steering(motion_mask_min=0.2, mask=Mask([black, white], (0, 1, 1, 0, 0, 1)))
    scale, _ = steered.at(0, 1, (5, 0, 1), 2, 2)
    torch.testing.assert_close(scale[:, 0, 0], torch.tensor([1.0, 0.2, 1.0]))


def test_an_error_in_the_middle_leaves_nothing(host, inputs, make_module, clips_of):
    module = make_module("v2" if host.base == "SD1.5" else "AnimateDiff-SDXL")
    given, before = inputs(12), list(host.unet.state_dict())
    plain, moving = host(*given), run(host, module, clips_of(6), given, None)

    def failing(*site):
        raise MemoryError

    with pytest.raises(MemoryError), injected(host.unet, module, clips_of(6), failing):
        host(*given)
    assert module.window == () and list(host.unet.state_dict()) == before and torch.equal(host(*given), plain)
    assert torch.equal(run(host, module, clips_of(6), given, None), moving)
