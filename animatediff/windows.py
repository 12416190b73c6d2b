"""Which frames are denoised together: context windows over a clip that is longer than the motion module's context.

Notation: L frames, B context length, o overlap, c distance between a window's frames ("context step").
At every step and for every setting: every frame is in at least one window; no window holds a frame twice;
every index is in range; every window has exactly min(B, L) frames; the same arguments give the same windows,
so that `count` and `total` tell before a run how many there will be.

The algorithms are those of animatediff-cli, the WebUI extension ("uniform" with its closed-loop choices) and
ComfyUI-AnimateDiff-Evolved ("uniform standard", "static standard", "batched"). Where those keep the invariants the
windows here are the same, in the same order; each function's docstring names what had to be repaired.
"""
from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from math import gcd

from animatediff.errors import SettingsError, quoted

Window = tuple[int, ...]
Plan = list[Window]
CLOSED_LOOPS = ("none", "seamless", "ping-pong", "R-P", "R+P", "A")
CLOSING = ("uniform", "views")  # schedules that close loops


def plan(
    frames: int,
    context: int,
    *,
    stride: int = 1,
    overlap: int = -1,
    closed_loop: str = "none",
    schedule: str = "uniform",
    step: int = 0,
) -> Plan:
    """The windows of sampling step `step`, in the order in which they are denoised.

    frames, context, overlap: numbers of frames; overlap -1 is context // 4. stride: neighbours in a window are up to
    2^(stride−1) frames apart. closed_loop matters to the schedules in CLOSING alone: "none" and "ping-pong" never wrap,
    "R-P" and "R+P" wrap (the two differ in the prompt schedule only), "A" wraps, with more windows across the seam in
    "uniform", "seamless" goes round the clip as a ring, also where that is no longer than a window. The others never
    wrap.
    """
    overlap = _check(frames, context, stride, overlap, closed_loop, schedule, step)
    if frames <= context and not (closed_loop == "seamless" and schedule in CLOSING):
        return [tuple(range(frames))]
    return SCHEDULES[schedule](frames, context, stride, overlap, closed_loop, step)


def calls(frames: int, context: int, *, schedule: str = "uniform", **options) -> Plan:
    """The frames of each call of the UNet in a step: the windows, save with "views", whose windows are those of the
    motion module alone and whose calls hold the whole clip. `options` are those of `plan`."""
    found = plan(frames, context, schedule=schedule, **options)
    return [tuple(range(frames))] if schedule == "views" else found


def count(frames: int, context: int, **options) -> int:
    """How many calls of the UNet a step has, one for each window that differs. With stride > 1, or "uniform" with
    "none", the number differs between steps. `options` are those of `plan`."""
    return len(set(calls(frames, context, **options)))


def estimate(frames: int, context: int, *, stride: int = 1, overlap: int = -1, closed_loop: str = "none",
             schedule: str = "uniform", step: int = 0) -> int:
    """`count` without making the windows, whatever the clip's length; a few more or less, for those at the clip's ends.
    """
    overlap = _check(frames, context, stride, overlap, closed_loop, schedule, step)
    if schedule == "views" or (frames <= context and not (closed_loop == "seamless" and schedule in CLOSING)):
        return 1
    if context == 1:
        return frames
    if schedule in ("static standard", "batched"):
        return 1 - (context - frames) // (context - (overlap if schedule == "static standard" else 0))
    distances, ring = _distances(frames, context, stride), schedule == "uniform" and closed_loop == "seamless"
    if ring or (schedule == "uniform" and closed_loop not in ("none", "ping-pong")):
        length = min(frames, context)
        fitting = [distance for distance in distances if length * gcd(distance, frames) <= frames]
        if ring:
            return sum(-(-frames // (length * d - overlap * length // context)) for d in fitting)
        return sum(len(_starts(frames, context, overlap, d, closed_loop == "A", step)) for d in fitting)
    return sum(_slid(_starts(frames, context, overlap, d, False, step), frames, frames - 1 - (context - 1) * d)
               for d in distances if (context - 1) * d < frames)


def _slid(starts: range, frames: int, last: int) -> int:
    """How many different windows start at `starts`, once round the clip, where none starts after `last`."""
    def between(low: int, high: int) -> int:
        below = [min(max(-((starts.start - edge) // starts.step), 0), len(starts)) for edge in (low, high)]
        return below[1] - below[0]

    before = between(0, last) + between(frames, frames + last)
    return before + (len(starts) > before)


def total(frames: int, context: int, *, steps: int, **options) -> int:
    """How many calls of the UNet a run of `steps` steps has in all. `options` are those of `plan` but step."""
    return sum(count(frames, context, step=step, **options) for step in range(steps))


def playback(frames: int, context: int, closed_loop: str) -> list[int]:
    """The order in which the clip's frames are written: to and fro, 4 frames become 0 1 2 3 2 1."""
    forth = list(range(frames))
    return forth + forth[-2:0:-1] if to_and_fro(frames, context, closed_loop) else forth


def to_and_fro(frames: int, context: int, closed_loop: str) -> bool:
    """Whether the clip plays forth and back. "A" does so where the clip fits one window, as in the WebUI extension."""
    return closed_loop == "ping-pong" or (closed_loop == "A" and frames <= context)


def closes(frames: int, context: int, closed_loop: str, schedule: str) -> bool:
    """Whether the clip's last frame, as it plays, leads to its first."""
    if to_and_fro(frames, context, closed_loop):
        return True
    return schedule in CLOSING and (closed_loop == "seamless" or (closed_loop != "none" and frames > context))


def resolved_overlap(overlap: int, context: int) -> int:
    """The overlap in frames, where -1 stands for a quarter of the context."""
    return context // 4 if overlap == -1 else overlap


def closes_prompt(closed_loop: str) -> bool:
    """Whether the prompt schedule is interpolated from its last key frame back to its first."""
    return closed_loop in ("seamless", "R+P", "A")


def ordered_halving(step: int) -> float:
    """The step's 64 bits reversed, over 2^64: 0, 1/2, 1/4, 3/4, 1/8, … (van der Corput's sequence).

    Below 1: the bits that a float does not hold are dropped, since 64 bits that are rounded may make 1.
    """
    return int(f"{step % (1 << 64):064b}"[:10:-1], 2) / (1 << 53)


def _uniform(frames: int, context: int, stride: int, overlap: int, closed_loop: str, step: int) -> Plan:
    """Windows with c = 1, 2, 4, …, all moved by a part of the clip that differs from step to step.

    Repairs: a distance c whose windows would hold a frame twice, which is when B·gcd(c, L) > L, is left out. "none" is
    the WebUI extension's: windows that would wrap are replaced by the clip's last and first window; the same window
    is not computed twice, the larger c do not wrap either, and what remains uncovered gets a window of its own.
    """
    if closed_loop == "seamless":
        return _ring(frames, context, stride, overlap, step)
    if closed_loop in ("none", "ping-pong"):
        windows = list(_cut_at_the_seam(frames, context, overlap, step))
        for distance in _distances(frames, context, stride):
            if distance > 1 and (context - 1) * distance < frames:
                for start in _starts(frames, context, overlap, distance, False, step):
                    windows.append(_ending_in_range(start % frames, context, distance, frames))
        return _covering(_unique(windows), frames, context)
    return [
        tuple((start + k * distance) % frames for k in range(context))
        for distance in _distances(frames, context, stride)
        if context * gcd(distance, frames) <= frames
        for start in _starts(frames, context, overlap, distance, closed_loop == "A", step)
    ]


def _ring(frames: int, context: int, stride: int, overlap: int, step: int) -> Plan:
    """"seamless": windows evenly round the clip as a ring, so that the seam is a place like any other.

    A window has min(B, L) frames. Where that is the whole clip, it is cut open somewhere else in each step, and by
    each of a step's windows; the overlap then keeps its share of the window.
    """
    length, pad = min(frames, context), round(frames * ordered_halving(step))
    overlap = overlap * length // context
    windows: Plan = []
    for distance in _distances(frames, context, stride):
        if length * gcd(distance, frames) <= frames:
            number = -(-frames // (length * distance - overlap))
            starts = [pad + i * frames // number for i in range(number)]
            windows += [tuple((start + k * distance) % frames for k in range(length)) for start in starts]
    return windows


def _uniform_standard(frames: int, context: int, stride: int, overlap: int, closed_loop: str, step: int) -> Plan:
    """As uniform, but a window that would wrap slides back until it ends with the clip; no window comes twice.

    Where the window after a slid one does not hold the frame at which the slid one would have come round, a
    window that starts there is put between. Repairs: distances whose windows are longer than the clip are left
    out, a window put between stays in range, and what remains uncovered gets a window of its own.
    """
    wrapping = [
        (start, distance)
        for distance in _distances(frames, context, stride)
        if (context - 1) * distance < frames
        for start in _starts(frames, context, overlap, distance, False, step)
    ]
    looped = [tuple((start + k * distance) % frames for k in range(context)) for start, distance in wrapping]
    windows: Plan = []
    for index, (window, (_, distance)) in enumerate(zip(looped, wrapping)):
        if not wraps(window):
            windows.append(window)
            continue
        windows.append(_ending_in_range(frames, context, distance, frames))
        round_at = next(here for before, here in itertools.pairwise(window) if here < before)
        after = looped[index + 1] if index + 1 < len(looped) else windows[0]
        if round_at not in after:
            windows.append(_ending_in_range(round_at, context, 1, frames))
    return _covering(_unique(windows), frames, context)


def _static_standard(frames: int, context: int, stride: int, overlap: int, closed_loop: str, step: int) -> Plan:
    """Starts B−o apart, the last window moved back to end with the clip; the same at every step."""
    last = frames - context
    starts = [*range(0, last, context - overlap), last]
    return [tuple(range(start, start + context)) for start in starts]


def _batched(frames: int, context: int, stride: int, overlap: int, closed_loop: str, step: int) -> Plan:
    """Disjoint chunks. Repair: a last chunk shorter than the context is moved back to end with the clip."""
    return _static_standard(frames, context, stride, 0, closed_loop, step)


def _views(frames: int, context: int, stride: int, overlap: int, closed_loop: str, step: int) -> Plan:
    """As static standard; round the clip where a loop is closed."""
    if closed_loop in ("none", "ping-pong"):
        return _static_standard(frames, context, stride, overlap, closed_loop, step)
    return _ring(frames, context, 1, overlap, step)


Schedule = Callable[[int, int, int, int, str, int], Plan]
SCHEDULES: dict[str, Schedule] = {
    "uniform": _uniform,
    "uniform standard": _uniform_standard,
    "static standard": _static_standard,
    "batched": _batched,
    "views": _views,
}


def wraps(window: Window) -> bool:
    """Whether the window runs over the clip's end back to its beginning."""
    return any(here < before for before, here in itertools.pairwise(window))


def _distances(frames: int, context: int, stride: int) -> list[int]:
    """1, 2, 4, … 2^(S−1) with S = min(stride, ⌈log2(L/B)⌉ + 1), in whole numbers."""
    halvings = (-(-frames // context) - 1).bit_length()
    return [1 << k for k in range(min(stride, halvings + 1))]


def _starts(frames: int, context: int, overlap: int, distance: int, closed: bool, step: int) -> range:
    """Where the windows of one distance start, before wrapping."""
    offset = ordered_halving(step)
    pad = round(frames * offset)
    end = frames + pad - (0 if closed else overlap)
    return range(int(offset * distance) + pad, end, context * distance - overlap)


def _cut_at_the_seam(frames: int, context: int, overlap: int, step: int) -> Iterator[Window]:
    """The WebUI extension's "N" for c = 1: no window wraps; its neighbours at the seam are the last and the first."""
    first, last = tuple(range(context)), tuple(range(frames - context, frames))
    first_is_due = False
    for start in _starts(frames, context, overlap, 1, False, step):
        start %= frames
        before_seam = frames - start
        if before_seam >= context:
            yield tuple(range(start, start + context))
        elif first_is_due:
            first_is_due = False
            yield first
        elif before_seam < context - overlap:
            yield last
            yield first
        else:  # the next window starts at the seam or before it, and becomes the first
            first_is_due = True
            yield last


def _ending_in_range(start: int, context: int, distance: int, frames: int) -> Window:
    """The window from `start`, moved back where it would run over the clip's end."""
    start = min(start, frames - 1 - (context - 1) * distance)
    return tuple(range(start, start + context * distance, distance))


def _unique(windows: Iterable[Window]) -> Plan:
    return list(dict.fromkeys(windows))


def _covering(windows: Plan, frames: int, context: int) -> Plan:
    """The windows, and as few plain ones after them as hold the frames that are in none."""
    windows = list(windows)
    missing = sorted(set(range(frames)).difference(*windows))
    while missing:
        extra = _ending_in_range(missing[0], context, 1, frames)
        windows.append(extra)
        missing = [frame for frame in missing if frame > extra[-1]]
    return windows


def _check(frames: int, context: int, stride: int, overlap: int, closed_loop: str, schedule: str, step: int) -> int:
    """Refuses what no plan exists for; returns the overlap in frames."""
    for name, value, least in (("frames", frames, 1), ("context_length", context, 1), ("stride", stride, 1),
                               ("step", step, 0)):
        if value < least:
            raise SettingsError(f"{value} is below {least}", where=name, remedy=f"Use {least} or more.")
    if not -1 <= overlap < context:
        raise SettingsError(f"{overlap} is not between -1 and {context - 1}, the context length less one",
                            where="overlap", remedy="Use -1 for a quarter of the context length.")
    for name, value, choices in (("closed_loop", closed_loop, CLOSED_LOOPS), ("context_schedule", schedule, SCHEDULES)):
        if value not in choices:
            raise SettingsError(f"{quoted(value)} is unknown", where=name, remedy=f"Use one of {', '.join(choices)}.")
    return resolved_overlap(overlap, context)
