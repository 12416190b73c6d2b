"""Initial latents from pictures, compared with the formula in plain Python, and the frames that are held."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from animatediff.sampling.from_pictures import FromPictures, Held, kept, kept_of_both, steps_done
from animatediff.settings import Settings

FIRST, LAST = torch.full((1, 1, 1, 1), 2.0), torch.full((1, 1, 1, 1), -3.0)
POWERS, SCALES = st.floats(0.1, 10), st.one_of(st.just(0.0), st.floats(0.01, 500))


def clip(**more):
    return Settings(frames=more.pop("frames", 8), **more)


def shares(frames: int, power: float, scale: float) -> list[float]:
    return [max(0.0, 1 - i**power / scale) if scale else 1.0 for i in range(frames)]


@pytest.mark.parametrize(("steps", "strength", "done"), [
    (20, 0.75, 16), (20, 1, 20), (20, 0, 1), (20, 0.999, 20), (1, 0.5, 1),
    (30, 0.3, 10), (8, 0.51, 5), (1000, 1, 1000)])
def test_steps_as_the_webui_counts_them(steps, strength, done):
    """The values are t_enc + 1 of the WebUI's setup_img2img_steps, computed by hand."""
    assert steps_done(steps, strength) == done


@given(st.integers(1, 60), POWERS, SCALES)
def test_shares_of_one_picture(frames, power, scale):
    found = kept(frames, power, scale)
    np.testing.assert_allclose(found, shares(frames, power, scale), rtol=1e-12, atol=1e-12)


@given(st.integers(1, 60), POWERS, SCALES, POWERS, SCALES)
def test_shares_of_two_pictures(frames, power, scale, power_last, scale_last):
    """A sum of more than 1 is divided by itself. The first and last frame have their picture alone."""
    first, last = kept_of_both(kept(frames, power, scale), kept(frames, power_last, scale_last))
    for i, (a, b) in enumerate(zip(shares(frames, power, scale), shares(frames, power_last, scale_last)[::-1])):
        if a + b > 1:
            a, b = a / (a + b), b / (a + b)
        expected = (1, 0) if i == 0 else (0, 1) if i == frames - 1 else (a, b)
        np.testing.assert_allclose((first[i], last[i]), expected, rtol=1e-12, atol=1e-12)
    assert (first + last <= 1 + 1e-12).all()


def test_initial_latents_of_one_picture():
    noise = torch.linspace(-1, 1, 8).view(8, 1, 1, 1)
    found = FromPictures(clip(latent_power=2, latent_scale=9), FIRST).start(lambda: noise).flatten()
    expected = [2 * a + n * (1 - a) for a, n in zip([1, 8 / 9, 5 / 9, 0, 0, 0, 0, 0], np.linspace(-1, 1, 8))]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_initial_latents_of_two_pictures():
    noise = torch.full((5, 1, 1, 1), 10.0)
    asked = clip(frames=5, latent_scale=2, latent_scale_last=4)
    found = FromPictures(asked, FIRST, LAST).start(lambda: noise).flatten()
    # α = 1 .5 0 0 0, β = 0 .25 .5 .75 1
    np.testing.assert_allclose(found, [2, 1 - 0.75 + 2.5, -1.5 + 5, -2.25 + 2.5, -3], atol=1e-6)


def never():
    raise AssertionError("noise is drawn although none is needed")


@pytest.mark.parametrize("settings", [clip(latent_scale=0), clip(latent_scale=0, frame_lock="0: 1, 4: 0")])
def test_scale_0_starts_from_the_picture_itself(settings):
    picture = torch.randn(8, 4, 3, 3)
    assert torch.equal(FromPictures(settings, picture).start(never), picture)


def test_pictures_for_each_frame_are_unchanged():
    pictures = torch.randn(8, 4, 3, 3)
    assert torch.equal(FromPictures(clip(), pictures, each=True).start(never), pictures)
    held = FromPictures(clip(frame_lock="1, 0"), pictures, each=True).held
    assert torch.equal(held.pictures, pictures) and held.until.tolist() == [1] + [0] * 7


def test_held_frames_start_from_the_picture():
    noise = torch.full((8, 1, 1, 1), 10.0)
    found = FromPictures(clip(frame_lock="0: 1, 2: 0.5, 3: 0", latent_scale=1), FIRST).start(lambda: noise).flatten()
    assert found.tolist() == [2, 2, 2, 10, 10, 10, 10, 10]


def until(**more):
    found = FromPictures(clip(**more), FIRST, LAST if more.pop("last", None) else None).held
    return found and found.until.tolist()


@pytest.mark.parametrize(("curve", "expected"), [
    ("0", None), ("0, 0", None), ("1, 0", [1, 0, 0, 0, 0, 0, 0, 0]), ("0: 1, 4: 0", [1, 0.75, 0.5, 0.25, 0, 0, 0, 0]),
    ("0%: 1, 100%: 0", [1 - i / 7 for i in range(8)])])
def test_frame_lock_is_a_curve_over_the_distance_to_the_picture(curve, expected):
    found = FromPictures(clip(frame_lock=curve), FIRST).held
    assert (found is None and expected is None) or found.until.tolist() == pytest.approx(expected)


def test_frame_lock_with_a_first_and_a_last_picture():
    held = FromPictures(clip(frame_lock="0: 1, 4: 0"), FIRST, LAST).held
    assert held.until.tolist() == pytest.approx([1, 0.75, 0.5, 0.25, 0.25, 0.5, 0.75, 1])
    assert held.pictures.flatten().tolist() == [2] * 4 + [-3] * 4
    everywhere = FromPictures(clip(frames=5, frame_lock="1"), FIRST, LAST).held
    assert everywhere.pictures.flatten().tolist() == [2, 2, 2, -3, -3] and everywhere.until.tolist() == [1] * 5


@pytest.mark.parametrize(("settings", "expected"), [
    ({"closed_loop": "R-P", "context_length": 4}, [1, 0.5, 0, 0, 0, 0, 0, 0.5]),
    ({"closed_loop": "A", "context_length": 8}, [1, 0.5, 0, 0, 0, 0, 0, 0]),  # one window, played to and fro
    ({"closed_loop": "R+P", "context_length": 4, "context_schedule": "static standard"}, [1, 0.5, 0, 0, 0, 0, 0, 0]),
    ({"context_length": 4}, [1, 0.5, 0, 0, 0, 0, 0, 0])])
def test_frame_lock_counts_across_the_seam_of_a_loop(settings, expected):
    assert FromPictures(clip(frame_lock="0: 1, 2: 0", **settings), FIRST).held.until.tolist() == expected


def test_held_frames_are_released_in_their_step():
    held = Held(torch.full((4, 1, 1, 1), 7.0), torch.tensor([1, 0.5, 0.25, 0]))
    out = torch.arange(4.0).view(4, 1, 1, 1)
    seen = {step: held.into(out, step / 4, lambda pictures: pictures + step).flatten().tolist() for step in range(4)}
    assert seen == {0: [7, 7, 7, 3], 1: [8, 8, 2, 3], 2: [9, 1, 2, 3], 3: [10, 1, 2, 3]}
    assert held.pinned(out).flatten().tolist() == [7, 1, 2, 3]
    assert held.into(out.half(), 0.0, lambda pictures: pictures).dtype == torch.float16
