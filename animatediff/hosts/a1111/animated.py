"""Add motion to a sampling call of the host.

`animated(p, …)` replaces the two sampling methods of this pass's sampler object. Each call of them runs inside a
`scope.Pass`, in which `clip.iterate` calls the sampler as often as the plan says.
"""
from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial
from typing import Any

from animatediff.attribute import attribute
from animatediff.clip.iterate import Iterations
from animatediff.errors import AnimateDiffError
from animatediff.hosts.a1111.sampler import Call, HostSampler
from animatediff.hosts.a1111.scope import Motion, Pass
from animatediff.hosts.shared import stop
from animatediff.sampling import OnEvent

UNDO = "animatediff_undo"  # attribute of a sampler whose next call has motion: restores its methods


def animated(p: Any, motion: Motion, *, on_event: OnEvent, on_end: Callable[[Pass], None],
             around: Callable[[Pass], AbstractContextManager[None]] = nullcontext) -> None:
    """Add motion to the next sampling call of `p.sampler`.

    img2img samples all clips of a job with one sampler, so the methods are restored when that call begins.
    on_event: called after every window.
    on_end: called when the pass ends, also after an error or an interrupt.
    around: returns a context manager that is entered together with the pass.
    """
    sampler, undo = p.sampler, ExitStack()
    if before := vars(sampler).get(UNDO):  # Forge calls this hook twice before the second pass of Hires. fix
        before.close()
    again = sampler.sample_img2img
    undo.enter_context(attribute(sampler, UNDO, undo))

    def sample(method: Callable[..., Any], from_picture: bool, *args: Any, **kwargs: Any) -> Any:
        undo.close()
        run = Pass(p, motion, on_event)
        try:
            with around(run), run:
                host = HostSampler(run, Call(method, from_picture, args, kwargs), again)
                return Iterations(run.settings, run.passes, host, on_event).latents(host.start())
        except AnimateDiffError as error:
            raise stop.AnimateDiffStopped(error) from error
        finally:
            on_end(run)

    for name in ("sample", "sample_img2img"):
        ours = partial(sample, getattr(sampler, name), name == "sample_img2img")
        undo.enter_context(attribute(sampler, name, ours))
