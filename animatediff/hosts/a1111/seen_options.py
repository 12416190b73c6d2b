"""Overrides of the host's options for parts of its code.

The user's options are never written: "Apply settings" during a clip saves them and may change them. The host's modules
read them through their own global names `opts` or `shared`. Inside a block, these names refer to a view that has other
values for some options.
"""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import Any

from modules import sd_samplers_cfg_denoiser, sd_samplers_common, sd_samplers_kdiffusion, sd_samplers_timesteps, shared

from animatediff.attribute import attribute

DENOISER = (sd_samplers_cfg_denoiser,)  # calls the model
SAMPLERS = (sd_samplers_common, sd_samplers_kdiffusion, sd_samplers_timesteps)  # compute steps and start latents


@contextmanager
def seen(by: tuple[ModuleType, ...], **values: Any) -> Iterator[None]:
    """Make these modules read `values` as the options of these names."""
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
