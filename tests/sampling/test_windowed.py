import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from animatediff import fuse, windows
from animatediff.sampling import WindowedDenoiser

ANY = dict(
    frames=st.integers(1, 37), context=st.integers(1, 16), stride=st.integers(1, 8), overlap=st.integers(-1, 15),
    closed_loop=st.sampled_from(windows.CLOSED_LOOPS), schedule=st.sampled_from(sorted(windows.SCHEDULES)),
    method=st.sampled_from(sorted(fuse.METHODS)), step=st.integers(0, 40),
)


def clip(frames, seed=0):
    return torch.randn(frames, 4, 2, 3, generator=torch.Generator().manual_seed(seed))


def frame_wise(x, sigma, frames):
    """A nonlinear denoiser that depends on the frame's number and not on other frames."""
    number = torch.tensor(frames, dtype=torch.float32).view(-1, 1, 1, 1)
    return torch.sin(x * sigma) + number


@settings(deadline=None, max_examples=150)
@given(**ANY)
def test_frame_wise_denoiser_gives_the_same_with_and_without_windows(frames, context, overlap, step, **options):
    overlap = min(overlap, context - 1)
    x = clip(frames)
    loop = WindowedDenoiser(frame_wise, frames, context, overlap=overlap, **options)
    torch.testing.assert_close(loop(x, 0.7, step=step), frame_wise(x, 0.7, range(frames)), rtol=0, atol=1e-5)


@pytest.mark.parametrize("schedule", windows.SCHEDULES)
@pytest.mark.parametrize("method", fuse.METHODS)
@pytest.mark.parametrize("frames", [5, 16])
def test_one_window_equals_the_plain_call_bit_for_bit(frames, schedule, method):
    def mixes_frames(x, sigma, numbers):
        return (x * 0.1 + x.mean(0) * 0.7 + x.flip(0) * sigma) / 3

    x = clip(frames).half()
    loop = WindowedDenoiser(mixes_frames, frames, 16, schedule=schedule, method=method)
    out = loop(x, 0.3)
    assert out.dtype == torch.half and torch.equal(out, mixes_frames(x, 0.3, None))


def test_overlaps_are_weighted_means():
    """Windows 0–3 and 2–5 return 10 and 20. The expected means are computed by hand."""
    answers = iter([10.0, 20.0])
    loop = WindowedDenoiser(
        lambda x, sigma, numbers: torch.full_like(x, next(answers)), 6, 4, overlap=2, schedule="static standard",
        method="pyramid",  # weights 1 2 2 1
    )
    out = loop(clip(6), 1.0)[:, 0, 0, 0]
    expected = torch.tensor([10, 10, (2 * 10 + 1 * 20) / 3, (1 * 10 + 2 * 20) / 3, 20, 20])
    torch.testing.assert_close(out, expected)


def test_denoiser_gets_the_frames_of_each_window():
    seen = []

    def denoise(x, sigma, numbers):
        seen.append((tuple(numbers), sigma))
        torch.testing.assert_close(x, whole[list(numbers)])
        return x

    whole = clip(23)
    loop = WindowedDenoiser(denoise, 23, 8, closed_loop="A")
    loop(whole, "sigma", step=3)
    assert [n for n, _ in seen] == windows.plan(23, 8, closed_loop="A", step=3)
    assert {s for _, s in seen} == {"sigma"}
    assert any(windows.wraps(n) for n, _ in seen)


def test_sums_are_kept_in_float32():
    """A frame is in eight windows. Their shares, summed in bfloat16, would not give back its value."""
    x = clip(40).bfloat16()
    loop = WindowedDenoiser(lambda x, sigma, n: x, 40, 8, overlap=7, schedule="static standard", method="relative")
    assert torch.equal(loop(x, 1.0), x)


def test_events_count_windows_and_steps():
    events = []
    loop = WindowedDenoiser(frame_wise, 36, 16, overlap=4, schedule="static standard", steps=9, on_event=events.append)
    loop(clip(36), 1.0, step=2)
    assert [(e.kind, e.index, e.total, e.step, e.steps) for e in events] == [("window", k, 3, 3, 9) for k in (1, 2, 3)]
    assert events[1].frames == tuple(range(12, 28)) and events[1].latents.shape == (36, 4, 2, 3)


def test_clip_of_another_length_is_refused():
    with pytest.raises(ValueError, match="16 frames"):
        WindowedDenoiser(frame_wise, 16, 16)(clip(15), 1.0)


def test_window_that_occurs_twice_is_denoised_once():
    options = dict(stride=2, overlap=0, closed_loop="seamless")
    plan = windows.plan(2, 1, **options)
    assert plan == [(0,), (1,), (0,)]
    seen = []
    loop = WindowedDenoiser(lambda x, sigma, *numbers: seen.append(numbers) or x, 2, 1, **options)
    x = clip(2)
    torch.testing.assert_close(loop(x, 1.0), x)
    assert seen == [((0,),), ((1,),)] and loop.plan(0) == [(0,), (1,)]


def test_shares_of_a_window_that_occurs_twice_add_up(monkeypatch):
    plan = [(0, 1), (1, 2), (0, 1)]
    monkeypatch.setattr(windows, "calls", lambda *args, **options: plan)
    answers = {(0, 1): 1.0, (1, 2): 4.0}
    loop = WindowedDenoiser(lambda x, sigma, window: torch.full_like(x, answers[window]), 3, 2, method="flat")
    torch.testing.assert_close(loop(clip(3), 1.0)[:, 0, 0, 0], torch.tensor([1.0, 2.0, 4.0]))


@settings(deadline=None, max_examples=60)
@given(**ANY, together=st.integers(2, 5))
def test_several_windows_per_call_give_the_same(frames, context, overlap, step, together, **options):
    def mixes_frames(x, sigma, *numbers):
        return torch.cat([part * 0.1 + part.mean(0) * 0.7 for part in x.split([*map(len, numbers)])])

    overlap, x = min(overlap, context - 1), clip(frames)
    one = WindowedDenoiser(mixes_frames, frames, context, overlap=overlap, **options)
    events = []
    several = WindowedDenoiser(mixes_frames, frames, context, overlap=overlap, **options, per_call=lambda: together,
                               on_event=events.append)
    assert torch.equal(several(x, 0.7, step=step), one(x, 0.7, step=step))
    assert [event.frames for event in events] == several.plan(step)
