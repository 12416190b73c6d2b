"""Context windows: the invariants at every step for every setting, and the known algorithms wherever they keep them."""
from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from animatediff import windows
from animatediff.errors import SettingsError

LOOPS = windows.CLOSED_LOOPS
OPEN = ("none", "ping-pong")
SCHEDULES = ("uniform", "uniform standard", "static standard", "batched")
PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 53, 61, 97, 127, 199)


def run(first: int, last: int, frames: int | None = None, by: int = 1) -> tuple[int, ...]:
    """first, first + by, …, last (inclusive), modulo frames."""
    return tuple(i % (frames or last + 1) for i in range(first, last + 1, by))


@st.composite
def plans(draw) -> tuple[int, int, dict]:
    context = draw(st.one_of(st.integers(1, 24), st.sampled_from(PRIMES[:9])))
    frames = draw(st.one_of(st.integers(1, 3 * context), st.integers(1, 200), st.sampled_from(PRIMES)))
    return frames, context, dict(
        stride=draw(st.integers(1, 8)),
        overlap=draw(st.integers(-1, context - 1)),
        closed_loop=draw(st.sampled_from(LOOPS)),
        schedule=draw(st.sampled_from(SCHEDULES)),
        step=draw(st.one_of(st.integers(0, 40), st.integers(0, 2**64 - 1))),
    )


def faults(plan: list[tuple[int, ...]], frames: int, context: int, may_wrap: bool) -> list[str]:
    """What a plan breaks, by definition and without looking at how it was made."""
    found = []
    if {frame for window in plan for frame in window} != set(range(frames)):
        found.append("frames uncovered or out of range")
    if any(len(window) != len(set(window)) for window in plan):
        found.append("a frame twice in a window")
    if any(len(window) != min(context, frames) for window in plan):
        found.append("a window of another length")
    if not may_wrap and any(list(window) != sorted(window) for window in plan):
        found.append("a window wraps")
    return found


def may_wrap(options: dict) -> bool:
    return options["schedule"] in ("uniform", "views") and options["closed_loop"] not in OPEN


@settings(max_examples=1500, deadline=None)
@given(plans())
def test_every_plan_keeps_the_invariants(case):
    frames, context, options = case
    plan = windows.plan(frames, context, **options)
    assert faults(plan, frames, context, may_wrap(options)) == []
    assert all(type(frame) is int for window in plan for frame in window)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_invariants_hold_for_all_small_clips(schedule):
    loops = LOOPS if schedule in ("uniform", "views") else ("none",)
    for context in range(1, 8):
        for frames in range(1, 20):
            for overlap in range(context):
                for stride in (1, 2, 3, 8):
                    for step in range(6):
                        for loop in loops:
                            options = dict(
                                stride=stride, overlap=overlap, closed_loop=loop, schedule=schedule, step=step)
                            plan = windows.plan(frames, context, **options)
                            assert faults(plan, frames, context, may_wrap(options)) == [], (frames, context, options)


def test_the_judge_of_plans_sees_each_fault():
    assert faults([(0, 1), (2, 3)], 4, 2, False) == []
    assert faults([(0, 1), (1, 2)], 4, 2, False) == ["frames uncovered or out of range"]
    assert faults([(0, 1), (2, 3), (3, 4)], 4, 2, False) == ["frames uncovered or out of range"]
    assert faults([(0, 1), (2, 3), (3, 3)], 4, 2, False) == ["a frame twice in a window"]
    assert faults([(0, 1), (2, 3), (1,)], 4, 2, False) == ["a window of another length"]
    assert faults([(0, 1), (2, 3), (3, 0)], 4, 2, False) == ["a window wraps"]
    assert faults([(0, 1), (2, 3), (3, 0)], 4, 2, True) == []


# Worked out by hand from the table in the facts: (frames, context, options, windows).
KNOWN = [
    (36, 16, dict(schedule="static standard", overlap=4), [run(0, 15), run(12, 27), run(20, 35)]),
    (36, 16, dict(schedule="static standard", overlap=4, step=7), [run(0, 15), run(12, 27), run(20, 35)]),
    (28, 16, dict(schedule="static standard", overlap=4), [run(0, 15), run(12, 27)]),
    (17, 16, dict(schedule="static standard", overlap=0), [run(0, 15), run(1, 16)]),
    (48, 16, dict(schedule="batched"), [run(0, 15), run(16, 31), run(32, 47)]),
    (40, 16, dict(schedule="batched", overlap=4), [run(0, 15), run(16, 31), run(24, 39)]),
    (36, 16, dict(closed_loop="R-P", overlap=4), [run(0, 15), run(12, 27), run(24, 39, 36)]),
    (40, 16, dict(closed_loop="R-P", overlap=4), [run(0, 15), run(12, 27), run(24, 39)]),
    (40, 16, dict(closed_loop="A", overlap=4), [run(0, 15), run(12, 27), run(24, 39), run(36, 51, 40)]),
    (32, 16, dict(closed_loop="R+P", overlap=4, step=1), [run(16, 31), run(28, 43, 32), run(40, 55, 32)]),
    (32, 16, dict(closed_loop="R+P", overlap=4, stride=2),
     [run(0, 15), run(12, 27), run(24, 39, 32), run(0, 31, by=2)]),
    (32, 16, dict(closed_loop="A", overlap=4, stride=8),
     [run(0, 15), run(12, 27), run(24, 39, 32), run(0, 31, by=2), run(28, 59, 32, by=2)]),
    (36, 16, dict(closed_loop="none", overlap=4), [run(0, 15), run(12, 27), run(20, 35)]),
    (36, 16, dict(closed_loop="none", overlap=4, step=1), [run(18, 33), run(20, 35), run(0, 15), run(6, 21)]),
    (36, 16, dict(schedule="uniform standard", overlap=4, step=1), [run(18, 33), run(20, 35), run(0, 15), run(6, 21)]),
    (36, 16, dict(schedule="uniform standard", overlap=4, step=2), [run(9, 24), run(20, 35), run(0, 15)]),
    (16, 16, dict(closed_loop="A", stride=4, step=3), [run(0, 15)]),
    (9, 16, dict(closed_loop="R-P", overlap=15), [run(0, 8)]),
    (1, 16, dict(), [(0,)]),
    (2, 1, dict(closed_loop="R-P", overlap=0, step=2**54 - 1), [(0,), (1,)]),
]


@pytest.mark.parametrize("frames, context, options, expected", KNOWN)
def test_well_known_plans(frames, context, options, expected):
    assert windows.plan(frames, context, **options) == expected


def halved(step: int) -> float:
    """oh(step) by the definition of van der Corput's sequence: digit k of the step counts 2^-(k+1). It is below 1, so
    digits that a float has no room for are left out."""
    return math.fsum((step >> k & 1) / 2 ** (k + 1) for k in range(53))


def known_uniform(frames: int, context: int, stride: int, overlap: int, loop: str, step: int) -> Iterator[list[int]]:
    """The facts' row "uniform (looped)", and the WebUI's "N" for c = 1, with all their faults."""
    for c in [2**k for k in range(min(stride, math.ceil(math.log2(frames / context)) + 1))]:
        pad = round(frames * halved(step))
        both = False
        j = int(halved(step) * c) + pad
        while j < frames + pad - (0 if loop == "A" else overlap):
            window = [(j + k * c) % frames for k in range(context)]
            seam = next((i for i in range(1, context) if window[i] < window[i - 1]), None)
            first, last = list(range(context)), list(range(frames - context, frames))
            if loop != "none" or c > 1 or seam is None:
                yield window
            elif both:
                both = False
                yield first
            elif seam < context - overlap:
                yield last
                yield first
            else:
                both = True
                yield last
            j += context * c - overlap


def known_standard(frames: int, context: int, stride: int, overlap: int, step: int) -> list[list[int]]:
    """The facts' row "uniform standard" with what its implementation puts between, with all its faults."""
    plan = list(known_uniform(frames, context, stride, overlap, "R-P", step))
    at = 0
    while at < len(plan):
        seam = next((i for i in range(1, context) if plan[at][i] < plan[at][i - 1]), None)
        if seam is not None:
            come_round, start = plan[at][seam], plan[at][0]
            moved = [(frame - start) % frames for frame in plan[at]]
            plan[at] = [frame + frames - 1 - moved[-1] for frame in moved]
            if come_round not in plan[(at + 1) % len(plan)]:
                plan.insert(at + 1, list(range(come_round, come_round + context)))
        at += 1
    return plan


def each_once(plan: list) -> list[tuple[int, ...]]:
    return list(dict.fromkeys(map(tuple, plan)))


@settings(max_examples=1200, deadline=None)
@given(plans())
def test_equals_the_known_algorithm_wherever_that_is_valid(case):
    frames, context, options = case
    stride, overlap, loop, step = (options[k] for k in ("stride", "overlap", "closed_loop", "step"))
    loop = "none" if loop == "ping-pong" else loop
    overlap = context // 4 if overlap < 0 else overlap
    if frames <= context or options["schedule"] in ("static standard", "batched") or loop == "seamless":
        return
    if options["schedule"] == "uniform":
        known = list(map(tuple, known_uniform(frames, context, stride, overlap, loop, step)))
        known = each_once(known) if loop == "none" else known
    else:
        known = each_once(known_standard(frames, context, stride, overlap, step))
    if not faults(known, frames, context, may_wrap(options)):
        assert windows.plan(frames, context, **options) == known


def test_where_known_algorithms_fail_and_ours_does_not():
    """The faults that the facts report, so that the comparison above is known to skip real ones only."""
    repeating = list(known_uniform(24, 16, 2, 4, "A", 0))
    assert "a frame twice in a window" in faults(repeating, 24, 16, True)
    assert list(known_uniform(9, 4, 1, 2, "none", 4)) == [[1, 2, 3, 4], [3, 4, 5, 6], [5, 6, 7, 8], [5, 6, 7, 8]]
    assert windows.plan(9, 4, overlap=2, step=4) == [run(1, 4), run(3, 6), run(5, 8), run(0, 3)]
    gaps = [(frames, context, overlap, step) for frames in range(5, 40) for context in (4, 5, 8) if frames > context
            for overlap in range(context) for step in range(8)
            if faults(list(known_uniform(frames, context, 1, overlap, "none", step)), frames, context, False)]
    assert len(gaps) > 20
    for frames, context, overlap, step in gaps:
        plan = windows.plan(frames, context, overlap=overlap, closed_loop="none", step=step)
        assert faults(plan, frames, context, False) == []
    assert "frames uncovered or out of range" in faults(known_standard(20, 16, 2, 4, 1), 20, 16, False)


@settings(max_examples=200, deadline=None)
@given(plans())
def test_the_number_of_windows_is_known_before_the_run(case):
    frames, context, options = case
    whole = [tuple(range(frames))]
    calls = [whole if options["schedule"] == "views" else windows.plan(frames, context, **{**options, "step": step})
             for step in range(5)]
    counted = [windows.count(frames, context, **{**options, "step": step}) for step in range(5)]
    assert counted == [len(set(plan)) for plan in calls]
    assert windows.calls(frames, context, **{**options, "step": 3}) == calls[3]
    del options["step"]
    assert windows.total(frames, context, steps=5, **options) == sum(counted)


@pytest.mark.parametrize("frames, context, overlap", [(36, 16, 4), (64, 16, 4), (97, 16, 8), (100, 7, 6), (17, 16, 0)])
def test_the_number_of_windows_in_closed_form(frames, context, overlap):
    """⌈(L−o)/(B−o)⌉ open, ⌈L/(B−o)⌉ closed, ⌈L/B⌉ batched, at every step."""
    for step in range(12):
        args = dict(overlap=overlap, step=step)
        hop = context - overlap
        assert windows.count(frames, context, closed_loop="R-P", **args) == math.ceil((frames - overlap) / hop)
        assert windows.count(frames, context, closed_loop="A", **args) == math.ceil(frames / hop)
        assert windows.count(frames, context, schedule="batched", **args) == math.ceil(frames / context)
        static = windows.count(frames, context, schedule="static standard", **args)
        assert static == math.ceil((frames - context) / hop) + 1


@settings(max_examples=200, deadline=None)
@given(plans())
def test_the_number_of_windows_is_estimated_without_making_them(case):
    frames, context, options = case
    exact = windows.count(frames, context, **options)
    assert abs(windows.estimate(frames, context, **options) - exact) <= 2 + 2 * options.get("stride", 1)


@pytest.mark.parametrize("schedule", windows.SCHEDULES)
@pytest.mark.parametrize("loop", windows.CLOSED_LOOPS)
def test_an_estimate_for_a_long_clip_is_close(schedule, loop):
    options = {"schedule": schedule, "closed_loop": loop, "stride": 3, "step": 5}
    assert windows.estimate(5000, 16, **options) == pytest.approx(windows.count(5000, 16, **options), rel=0.01)


@settings(max_examples=100, deadline=None)
@given(plans())
def test_no_window_is_denoised_twice_where_none_wraps(case):
    frames, context, options = case
    if not may_wrap(options):
        plan = windows.plan(frames, context, **options)
        assert len(set(plan)) == len(plan)


@settings(max_examples=300, deadline=None)
@given(plans())
def test_a_seamless_ring_has_no_place_of_its_own_for_the_seam(case):
    """Starts lie evenly round the clip, ⌈L/(B−o)⌉ of each distance c = 1, with B and o of the window; over the steps
    they come to lie everywhere."""
    frames, context, options = case
    options |= dict(schedule="uniform", closed_loop="seamless", stride=1)
    length, overlap = min(frames, context), options["overlap"] if options["overlap"] >= 0 else context // 4
    starts = sorted(window[0] for window in windows.plan(frames, context, **options))
    assert len(starts) == math.ceil(frames / (length - overlap * length // context))
    gaps = [(b - a) % frames or frames for a, b in zip(starts, [*starts[1:], starts[0]])]
    assert max(gaps) - min(gaps) <= 1
    steps = range(2 ** frames.bit_length())
    begun = {window[0] for step in steps for window in windows.plan(frames, context, **{**options, "step": step})}
    assert begun == set(range(frames))


@pytest.mark.parametrize("frames, context, options, expected", [
    (16, 16, {}, [run(0, 15), run(8, 23, 16)]), (16, 16, dict(step=2), [run(4, 19, 16), run(12, 27, 16)]),
    (16, 16, dict(overlap=0, step=1), [run(8, 23, 16)]), (8, 16, {}, [run(0, 7), run(4, 11, 8)]),
    (32, 16, {}, [run(0, 15), run(10, 25), run(21, 36, 32)]), (1, 16, {}, [(0,)]), (2, 16, dict(step=1), [(1, 0)]),
    (32, 16, dict(overlap=0, stride=2), [run(0, 15), run(16, 31), run(0, 30, by=2)]),
])
def test_seamless_plans(frames, context, options, expected):
    assert windows.plan(frames, context, closed_loop="seamless", **options) == expected


def test_ping_pong_is_an_open_clip():
    for step in range(6):
        assert windows.plan(40, 16, closed_loop="ping-pong", step=step) == windows.plan(40, 16, step=step)


def test_ordered_halving():
    assert [windows.ordered_halving(step) for step in range(8)] == [0, 0.5, 0.25, 0.75, 0.125, 0.625, 0.375, 0.875]


def test_overlap_minus_one_is_a_quarter_of_the_context():
    assert windows.plan(40, 18, overlap=-1, closed_loop="A") == windows.plan(40, 18, overlap=4, closed_loop="A")
    assert windows.resolved_overlap(-1, 3) == 0


@pytest.mark.parametrize("frames, context, loop, expected", [
    (4, 16, "A", [0, 1, 2, 3, 2, 1]), (16, 16, "A", [*range(16), *range(14, 0, -1)]), (17, 16, "A", [*range(17)]),
    (1, 16, "A", [0]), (2, 16, "A", [0, 1]), (3, 3, "A", [0, 1, 2, 1]), (4, 16, "none", [0, 1, 2, 3]),
    (4, 16, "R+P", [0, 1, 2, 3]), (4, 16, "seamless", [0, 1, 2, 3]), (4, 16, "ping-pong", [0, 1, 2, 3, 2, 1]),
    (5, 4, "ping-pong", [0, 1, 2, 3, 4, 3, 2, 1]), (1, 1, "ping-pong", [0]),
])
def test_playback(frames, context, loop, expected):
    assert windows.playback(frames, context, loop) == expected


def test_the_prompt_closes_with_the_windows_but_for_r_minus_p():
    assert {loop for loop in LOOPS if windows.closes_prompt(loop)} == {"seamless", "R+P", "A"}


@pytest.mark.parametrize("args, options, where", [
    ((0, 16), {}, "frames"), ((16, 0), {}, "context_length"), ((16, 8), dict(stride=0), "stride"),
    ((16, 8), dict(overlap=8), "overlap"), ((16, 8), dict(overlap=-2), "overlap"), ((16, 8), dict(step=-1), "step"),
    ((16, 8), dict(closed_loop="R"), "closed_loop"), ((16, 8), dict(schedule="viewed"), "context_schedule"),
])
def test_refusals_name_the_parameter(args, options, where):
    with pytest.raises(SettingsError) as refusal:
        windows.plan(*args, **options)
    assert refusal.value.where == where and refusal.value.remedy
