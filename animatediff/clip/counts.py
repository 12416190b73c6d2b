"""The numbers of windows and UNet calls of a run, before it begins. Large numbers are estimated."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from animatediff.clip.plan import Pass

COUNTED_AT_MOST = 100_000  # frames in all windows of a run; larger numbers are estimated, since counting takes time


@dataclass(frozen=True)
class Count:
    """Numbers of windows in a sampler run."""

    fewest: int  # in a step
    most: int  # in a step
    total: int | None  # in all denoiser calls; None if the number of calls is unknown
    exact: bool = True  # counted, not estimated


def count(part: Pass) -> Count:
    """Count the windows of a sampler run."""
    context, calls = part.context, part.run.call_steps
    if part.seam is not None:
        return Count(1, 1, None if calls is None else len(calls))
    about = {step: context.about(step) for step in set(calls or [0])}
    exact = sum(about.values()) * context.length <= COUNTED_AT_MOST
    counts = {step: context.calls(step) for step in about} if exact else about
    total = None if calls is None else sum(counts[step] for step in calls)
    return Count(min(counts.values()), max(counts.values()), total, exact)


def sign(passes: Sequence[Count]) -> str:
    """Return the sign ≈ if some numbers are estimated, else ""."""
    return "" if all(p.exact for p in passes) else "\N{ALMOST EQUAL TO} "


def total(passes: Sequence[Count], clips: int, calls: int | None) -> str:
    """Return the UNet calls as a sum of passes times clips, such as (20 + 15) × 2 = 70."""
    if calls is None:
        return "?"
    terms = " + ".join(f"{p.total:,}" for p in passes)
    if clips > 1:
        terms = (f"({terms})" if len(passes) > 1 else terms) + f" \N{MULTIPLICATION SIGN} {clips}"
    about = sign(passes)
    return f"{about}{calls:,}" if len(passes) == clips == 1 else f"{terms} = {about}{calls:,}"
