"""The progress bar counts windows.

It shows (`state.job_no` + `state.sampling_step` / `state.sampling_steps`) / `state.job_count`. The second of these is
what ControlNet and others take the share of the run from, for each call of the UNet: while step i runs it is i - 1 (0 in the
first), and stays so. What is done beyond that is added to the first, until the pass ends. Nothing here imports the host.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from animatediff.sampling import Event


@contextmanager
def progress_in_windows(state: Any, sampler: Any, name: str) -> Iterator[Callable[[Event], None]]:
    """Gives what is to be told of every window. `sampler`: of this pass alone; its `callback_state` ends each step."""
    job, plain = state.job_no, sampler.callback_state

    def told(event: Event) -> None:
        step = min(event.step, event.steps)
        done = step - 1 + event.index / event.total
        state.job_no = job + (done - state.sampling_step) / event.steps
        state.textinfo = f"{name}: step {step} of {event.steps}, window {event.index} of {event.total}"

    def callback_state(values: Any) -> None:
        state.job_no = job + 1 / max(1, state.sampling_steps)  # the host now sets sampling_step to the step that ends
        plain(values)

    sampler.callback_state = callback_state
    try:
        yield told
    finally:
        sampler.callback_state = plain
        state.job_no, state.textinfo = job, None
        state.sampling_step = state.sampling_steps  # all of this pass; nothing samples before the host sets it to 0
