"""Context manager that installs the motion module and other changes in a UNet."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Protocol

from torch import nn

from animatediff.layout import ClipLayout
from animatediff.motion import MotionModule, injected, lora
from animatediff.motion.steering import SteerOf
from animatediff.unet.prompts_once import prompts_once
from animatediff.unet.reuse import Reuse


class Call(Protocol):
    """The state of the current UNet call, read by the installed parts."""

    reuse: Reuse
    layout: ClipLayout

    @property
    def steer_of(self) -> SteerOf | None:
        """See motion.injected."""


@contextmanager
def in_unet(unet: nn.Module, module: MotionModule | None, loras: Sequence[lora.Weighted], frames: int, call: Call
            ) -> Iterator[None]:
    """Install the motion module, domain adapters, cached prompt keys and step reuse in a UNet.

    The UNet is restored when the block ends, also after an error.
    module: None for stills, which use no LoRAs either.
    loras: motion LoRAs; only the domain adapters among them are installed here.
    frames: number of frames in the clip.
    """
    layout_of = call.reuse.layout_of(lambda rows: call.layout)
    with ExitStack() as stack:
        if module is not None:
            stack.enter_context(lora.applied_to_unet(unet, loras, frames, layout_of))
        stack.enter_context(prompts_once(unet))
        if module is not None:
            stack.enter_context(injected(unet, module, layout_of, call.steer_of))
        stack.enter_context(call.reuse.installed(unet))
        yield
