"""Options of the host that parts of its code see otherwise for a while.

The options themselves are the user's and are never written: "Apply settings" in the middle of a clip saves what is in
them, and may change them. The host's modules read them by a name of their own, `opts` or `shared`; for the length of a
block that name means a view, which has other values for some options and is the real thing in all else.
"""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import Any

from modules import sd_samplers_cfg_denoiser, sd_samplers_common, sd_samplers_kdiffusion, sd_samplers_timesteps, shared

from animatediff.attribute import attribute

DENOISER = (sd_samplers_cfg_denoiser,)  # which asks the model
SAMPLERS = (sd_samplers_common, sd_samplers_kdiffusion, sd_samplers_timesteps)  # which make steps and start latents


@contextmanager
def seen(by: tuple[ModuleType, ...], **values: Any) -> Iterator[None]:
    """These modules read `values` where they ask for the options of these names."""
    opts = _View(shared.opts, values)
    views = ((shared.opts, opts), (shared, _View(shared, {"opts": opts})))
    with ExitStack() as stack:
        for module in by:
            for name, value in list(vars(module).items()):
                for real, view in views:
                    if value is real:
                        stack.enter_context(attribute(module, name, view))
        yield


class _View:
    """An object with other values for some of its attributes."""

    def __init__(self, real: Any, values: dict[str, Any]):
        vars(self).update(_real=real, _values=values)

    def __getattr__(self, name: str) -> Any:
        values = vars(self)["_values"]
        return values[name] if name in values else getattr(vars(self)["_real"], name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(vars(self)["_real"], name, value)
