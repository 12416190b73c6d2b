"""Add motion to a sampling call of the host.

`animated(p, …)` replaces the two sampling methods of this pass's sampler object. Each call of them runs inside a
`scope.Pass`. FreeInit and the seam repair call them several times.
"""
from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial
from typing import Any

from animatediff.attribute import attribute
from animatediff.errors import AnimateDiffError
from animatediff.hosts.a1111 import freeinit
from animatediff.hosts.a1111.repair import repaired
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
        run.from_picture = from_picture
        try:
            with around(run), run:
                args = run.started(args)
                if run.iterations == 1:
                    made = method(*args, **kwargs)
                else:
                    made = freeinit.sample(run, method, args, kwargs)
                return repaired(run, again, run.pinned(made))
        except AnimateDiffError as error:
            raise stop.AnimateDiffStopped(error) from error
        finally:
            on_end(run)

    for name in ("sample", "sample_img2img"):
        ours = partial(sample, getattr(sampler, name), name == "sample_img2img")
        undo.enter_context(attribute(sampler, name, ours))
