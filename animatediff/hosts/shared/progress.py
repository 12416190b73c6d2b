"""A progress bar that counts windows.

The host's bar shows (`state.job_no` + `state.sampling_step` / `state.sampling_steps`) / `state.job_count`. ControlNet
and other extensions read `sampling_step` in each call of the UNet to find the progress of the run: during step i it
must be i - 1 (0 in the first). So it is not changed; the fraction of windows is added to `job_no` until the pass ends.
Nothing here imports the host.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from animatediff.sampling import Event


@contextmanager
def progress_in_windows(state: Any, sampler: Any, name: str,
                        parts: Sequence[int] = (1,)) -> Iterator[Callable[[Event], None]]:
    """Yield a callback for every window and, if there are several iterations, for the start of each.

    sampler: sampler of this pass only. Its `callback_state` ends each step.
    parts: length of each iteration of the pass, for example in steps, and of the seam repair if there is one.
    """
    job, plain, iteration = state.job_no, sampler.callback_state, 1

    def show(done: float, step: int) -> None:
        """Show the share of the iteration that is complete. step: the sampling_step now or after this callback."""
        whole = (sum(parts[:iteration - 1]) + parts[iteration - 1] * done) / sum(parts)
        state.job_no = job + whole - step / max(1, state.sampling_steps)

    def on_event(event: Event) -> None:
        nonlocal iteration
        iteration = event.iteration
        if event.kind == "iteration":
            state.sampling_step = state.current_image_sampling_step = 0
            return show(0, 0)
        step = min(event.step, event.steps)
        show((step - 1 + event.index / event.total) / event.steps, state.sampling_step)
        text = f"step {step} of {event.steps}, window {event.index} of {event.total}"
        state.textinfo = f"{name}: {', '.join(filter(None, (event.run_name, text)))}"

    def callback_state(values: Any) -> None:
        step = values["i"]
        show(min(1, (step + 1) / max(1, state.sampling_steps)), step)  # the host then sets sampling_step to `step`
        plain(values)

    sampler.callback_state = callback_state
    try:
        yield on_event
    finally:
        sampler.callback_state = plain
        state.job_no, state.textinfo = job, None
        state.sampling_step = state.sampling_steps  # the pass is complete; the host sets it to 0 before the next one
