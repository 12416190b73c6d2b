"""Time contenders against each other on a machine with other load: they alternate, and medians count."""
from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

# Environment variables that affect the timings: threads, and how the allocator returns memory.
SETTINGS_OUTSIDE = ("LD_PRELOAD", "MALLOC_", "OMP_", "KMP_", "GOMP_", "MKL_", "THP_MEM_ALLOC_ENABLE")


@dataclass(frozen=True)
class Timing:
    """The timings of one contender."""

    seconds: list[float]  # of each round
    first: Any  # result of the first, untimed call

    @property
    def median(self) -> float:
        return median(self.seconds)


def wall(call: Callable[[], Any]) -> float:
    """Return the wall-clock seconds of a call."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def on_gpu(calls: int) -> Callable[[Callable[[], Any]], float]:
    """Return a timer of GPU seconds per call, measured by events around `calls` calls without waiting in between."""
    def seconds(call: Callable[[], Any]) -> float:
        import torch

        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        begin.record()
        for _ in range(calls):
            call()
        end.record()
        torch.cuda.synchronize()
        return begin.elapsed_time(end) / 1e3 / calls

    return seconds


def alternate(
    contenders: dict[str, Callable[[], Any]],
    *,
    rounds: int,
    seconds: float = float("inf"),
    warm_up: dict[str, Callable[[], Any]] | None = None,
    say: str = "",
    seconds_of: Callable[[Callable[[], Any]], float] = wall,
) -> dict[str, Timing]:
    """Call the contenders in turn, once to warm up and then `rounds` times, and return their timings.

    Slow moments of the machine affect all contenders, and their order rotates by one each round.

    seconds: time limit; later rounds are left out, but at least one is run.
    warm_up: functions to call instead of a contender in its first, untimed call.
    say: prefix of a line printed for each round; "" prints nothing.
    seconds_of: measures the seconds of a call.
    """
    start, names = time.perf_counter(), list(contenders)
    first = {name: call() for name, call in (contenders | (warm_up or {})).items()}
    spent: dict[str, list[float]] = {name: [] for name in names}
    longest = 0.0
    for index in range(rounds):
        before = time.perf_counter()
        if index and before - start + longest > seconds:
            break
        for name in names[index % len(names) :] + names[: index % len(names)]:
            spent[name].append(seconds_of(contenders[name]))
        longest = max(longest, time.perf_counter() - before)
        if say:
            shown = ", ".join(f"{name} {spent[name][-1]:.3g} s" for name in names)
            print(f"  {say}, round {index + 1}: {shown}", flush=True)
    return {name: Timing(spent[name], first[name]) for name in names}


def machine() -> dict[str, Any]:
    """Return facts about the machine that took the measurements."""
    import torch

    outside = {k: v for k, v in os.environ.items() if k.startswith(SETTINGS_OUTSIDE)}
    return {
        "date": date.today().isoformat(), "torch": torch.__version__, "python": platform.python_version(),
        "system": platform.platform(terse=True),
        "processor": _processor(), "cores": os.cpu_count(), "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(), "environment": outside,
        **({"GPU": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}),
    }  # fmt: skip


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
