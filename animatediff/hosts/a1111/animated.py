"""A sampling call of the host's becomes one with motion.

`animated(p, …)` replaces, on this pass's own sampler object, the two methods with which the host samples. Each of their
calls runs inside a `scope.Pass`, as often as FreeInit and the repair of the seam ask.
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

UNDO = "animatediff_undo"  # attribute of a sampler whose next call has motion


def animated(p: Any, motion: Motion, *, on_event: OnEvent, on_end: Callable[[Pass], None],
             around: Callable[[Pass], AbstractContextManager[None]] = nullcontext) -> None:
    """Make the next sampling call of `p.sampler` one with motion. img2img samples all clips of a job with one sampler.

    on_event: told of every window. on_end: told how far the pass has come, however it ended. around: makes a context
    that is entered together with the pass.
    """
    sampler, undo = p.sampler, ExitStack()
    if before := vars(sampler).get(UNDO):  # Forge has this hook twice before the second pass of Hires. fix
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
