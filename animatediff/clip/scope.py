"""What a clip puts into a UNet, for the length of a block."""
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
    """What a UNet call that is under way tells to what was put in."""

    reuse: Reuse
    layout: ClipLayout

    @property
    def steer_of(self) -> SteerOf | None:
        """See motion.injected."""


@contextmanager
def in_unet(unet: nn.Module, module: MotionModule | None, loras: Sequence[lora.Weighted], frames: int, call: Call
            ) -> Iterator[None]:
    """The motion module, the domain adapters among `loras`, prompts' keys computed once, and what is reused between
    steps. frames: of the clip. module: None for stills, which have no LoRAs either. Whatever ends the block, the UNet
    is as it was."""
    layout_of = call.reuse.layout_of(lambda rows: call.layout)
    with ExitStack() as stack:
        if module is not None:
            stack.enter_context(lora.applied_to_unet(unet, loras, frames, layout_of))
        stack.enter_context(prompts_once(unet))
        if module is not None:
            stack.enter_context(injected(unet, module, layout_of, call.steer_of))
        stack.enter_context(call.reuse.installed(unet))
        yield
