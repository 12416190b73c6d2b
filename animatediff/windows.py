"""Context windows: the frames that are denoised together in a clip longer than the context length.

Notation: L number of frames, B context length, o overlap, c distance between a window's frames ("context step").

Invariants for all steps and settings:

* Every frame is in at least one window.
* A window has exactly min(B, L) frames, none of them twice, all of them in range.
* The same arguments give the same windows, so `count` and `total` are exact before a run.

The algorithms are those of animatediff-cli, the WebUI extension ("uniform" with its closed-loop choices) and
ComfyUI-AnimateDiff-Evolved ("uniform standard", "static standard", "batched"). If the original windows fulfil the
invariants, the windows here are the same, in the same order. Docstrings name the corrections.
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
    """Return the windows of sampling step `step`, in the order in which they are denoised.

    frames: number of frames in the clip.
    context: context length in frames.
    stride: neighbours in a window are up to 2^(stride−1) frames apart.
    overlap: frames that neighbouring windows share; -1 is context // 4.
    schedule: a name in SCHEDULES.
    closed_loop: has an effect only with the schedules in CLOSING; with others, windows never wrap.
      "none", "ping-pong": windows do not wrap.
      "R-P", "R+P": windows wrap. The two differ only in the prompt schedule.
      "A": windows wrap, and "uniform" has more windows across the seam.
      "seamless": windows go round the clip as a ring, even if the clip is not longer than a window.

    Raise SettingsError for values that are out of range.
    """
    overlap = _check(frames, context, stride, overlap, closed_loop, schedule, step)
    if frames <= context and not (closed_loop == "seamless" and schedule in CLOSING):
        return [tuple(range(frames))]
    return SCHEDULES[schedule](frames, context, stride, overlap, closed_loop, step)


def calls(frames: int, context: int, *, schedule: str = "uniform", **options) -> Plan:
    """Return the frames of each UNet call in a step. These are the windows, except with the schedule "views".

    With "views", a UNet call has the whole clip, and only the motion module works in windows.
    options: see `plan`.
    """
    found = plan(frames, context, schedule=schedule, **options)
    return [tuple(range(frames))] if schedule == "views" else found


def count(frames: int, context: int, **options) -> int:
    """Return the number of UNet calls in a step: one for each distinct window.

    With stride > 1, or "uniform" with the closed loop "none", the number differs between steps.
    options: see `plan`.
    """
    return len(set(calls(frames, context, **options)))


def estimate(frames: int, context: int, *, stride: int = 1, overlap: int = -1, closed_loop: str = "none",
             schedule: str = "uniform", step: int = 0) -> int:
    """Return an estimate of `count` without making the windows.

    Its time does not depend on the clip's length. It may be off by a few windows at the clip's ends.
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
    """Return the number of distinct windows that start at `starts`, if windows after `last` slide back to `last`."""
    def between(low: int, high: int) -> int:
        below = [min(max(-((starts.start - edge) // starts.step), 0), len(starts)) for edge in (low, high)]
        return below[1] - below[0]

    before = between(0, last) + between(frames, frames + last)
    return before + (len(starts) > before)


def total(frames: int, context: int, *, steps: int, **options) -> int:
    """Return the number of UNet calls in a run of `steps` steps. options: see `plan`, without `step`."""
    return sum(count(frames, context, step=step, **options) for step in range(steps))


def playback(frames: int, context: int, closed_loop: str) -> list[int]:
    """Return the order in which the frames are written. For ping-pong, 4 frames become 0 1 2 3 2 1."""
    forth = list(range(frames))
    return forth + forth[-2:0:-1] if to_and_fro(frames, context, closed_loop) else forth


def to_and_fro(frames: int, context: int, closed_loop: str) -> bool:
    """Return whether the clip plays forwards and backwards.

    Like the WebUI extension, "A" does so if the clip fits into one window.
    """
    return closed_loop == "ping-pong" or (closed_loop == "A" and frames <= context)


def closes(frames: int, context: int, closed_loop: str, schedule: str) -> bool:
    """Return whether the clip is a loop: its last frame in playback leads to its first."""
    if to_and_fro(frames, context, closed_loop):
        return True
    return schedule in CLOSING and (closed_loop == "seamless" or (closed_loop != "none" and frames > context))


def resolved_overlap(overlap: int, context: int) -> int:
    """Return the overlap in frames. -1 means a quarter of the context length."""
    return context // 4 if overlap == -1 else overlap


def closes_prompt(closed_loop: str) -> bool:
    """Return whether the prompt schedule is interpolated from its last key frame back to its first."""
    return closed_loop in ("seamless", "R+P", "A")


def ordered_halving(step: int) -> float:
    """Return the step's 64 bits reversed, divided by 2^64: 0, 1/2, 1/4, 3/4, 1/8, … (van der Corput sequence).

    The result is below 1. Bits that do not fit into a float are dropped, because rounding could give 1.
    """
    return int(f"{step % (1 << 64):064b}"[:10:-1], 2) / (1 << 53)


def _uniform(frames: int, context: int, stride: int, overlap: int, closed_loop: str, step: int) -> Plan:
    """Windows with c = 1, 2, 4, …, all shifted by an offset that differs between steps.

    Correction: a distance c is left out if a window would hold a frame twice, which is the case if B·gcd(c, L) > L.

    "none" is as in the WebUI extension: windows that would wrap are replaced by the clip's last and first window.
    Corrections: no window occurs twice, windows with larger c do not wrap either, and frames that are in no window get
    one.
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
    """"seamless": windows at even distances round the clip as a ring, so the seam is like any other place.

    A window has min(B, L) frames. If that is the whole clip, each window of each step starts at another frame, and the
    overlap is scaled by min(B, L) / B.
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
    """Like uniform, but a window that would wrap is moved back to end with the clip. No window occurs twice.

    A window that wraps has a frame at which it continues from the clip's beginning. If the next window does not hold
    this frame, a window that starts at it is inserted. Corrections: distances whose windows are longer than the clip
    are left out, inserted windows stay in range, and frames that are in no window get one.
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
    """Windows B−o frames apart. The last one is moved back to end with the clip. All steps have the same windows."""
    last = frames - context
    starts = [*range(0, last, context - overlap), last]
    return [tuple(range(start, start + context)) for start in starts]


def _batched(frames: int, context: int, stride: int, overlap: int, closed_loop: str, step: int) -> Plan:
    """Disjoint windows. Correction: a last window shorter than the context is moved back to end with the clip."""
    return _static_standard(frames, context, stride, 0, closed_loop, step)


def _views(frames: int, context: int, stride: int, overlap: int, closed_loop: str, step: int) -> Plan:
    """Like static standard; with a closed loop, windows round the clip as a ring."""
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
    """Return whether the window continues from the clip's end to its beginning."""
    return any(here < before for before, here in itertools.pairwise(window))


def _distances(frames: int, context: int, stride: int) -> list[int]:
    """Return the distances 1, 2, 4, … 2^(S−1) with S = min(stride, ⌈log2(L/B)⌉ + 1), in integer arithmetic."""
    halvings = (-(-frames // context) - 1).bit_length()
    return [1 << k for k in range(min(stride, halvings + 1))]


def _starts(frames: int, context: int, overlap: int, distance: int, closed: bool, step: int) -> range:
    """Return the starts of the windows of one distance, before wrapping."""
    offset = ordered_halving(step)
    pad = round(frames * offset)
    end = frames + pad - (0 if closed else overlap)
    return range(int(offset * distance) + pad, end, context * distance - overlap)


def _cut_at_the_seam(frames: int, context: int, overlap: int, step: int) -> Iterator[Window]:
    """Yield the windows of the WebUI extension's closed loop "N" for c = 1.

    A window that would wrap is replaced by the clip's last and first window.
    """
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
        else:  # the next window starts at the seam or before it; it is replaced by the first window
            first_is_due = True
            yield last


def _ending_in_range(start: int, context: int, distance: int, frames: int) -> Window:
    """Return the window from `start`, moved back if it would exceed the clip's end."""
    start = min(start, frames - 1 - (context - 1) * distance)
    return tuple(range(start, start + context * distance, distance))


def _unique(windows: Iterable[Window]) -> Plan:
    return list(dict.fromkeys(windows))


def _covering(windows: Plan, frames: int, context: int) -> Plan:
    """Return the windows, with windows of distance 1 added for the frames that are in none."""
    windows = list(windows)
    missing = sorted(set(range(frames)).difference(*windows))
    while missing:
        extra = _ending_in_range(missing[0], context, 1, frames)
        windows.append(extra)
        missing = [frame for frame in missing if frame > extra[-1]]
    return windows


def _check(frames: int, context: int, stride: int, overlap: int, closed_loop: str, schedule: str, step: int) -> int:
    """Return the overlap in frames. Raise SettingsError for values that are out of range."""
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
