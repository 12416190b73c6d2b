"""The interface to the parts that differ between WebUI-like hosts: their checkpoints and their calls of the UNet."""
from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from animatediff.hosts.shared.cfg_rows import Rows
from animatediff.sampling.betas import Schedule
from animatediff.sampling.memory import WhileSampling
from animatediff.settings import Settings
from animatediff.unet.reuse import Reuse

# (x [n c h w], indices of these rows in the host's batch [n]) -> the model's output, same shape as x.
OfRows = Callable[[Tensor, Tensor], Tensor]


class Run(Protocol):
    """The part of a sampling pass that the host's calls use."""

    settings: Settings
    memory: WhileSampling
    reuse: Reuse
    error: Exception | None  # raised by the next call
    parts: list[list[float]] | None  # weights of each frame's parts of AND; None outside the denoiser
    empty: Tensor | None  # the empty prompt of the current model, if it was needed

    def answer(self, rows: Rows, x: Tensor, t: Tensor, of_rows: OfRows) -> Tensor:
        """Return the model's output for the clip, computed window by window.

        x: [rows c h w].
        t: timesteps or noise levels [rows].
        """
        ...


class Backend(Protocol):
    """The operations on a host's models.

    model: the host's `shared.sd_model`.
    denoiser: the sampler's `model_wrap_cfg`.
    """

    equal_parts: bool  # whether AND must have the same number of parts in all frames

    def loaded(self) -> Any:
        """Return the model in memory, or None. Does not load one."""
        ...

    def unet(self, model: Any) -> nn.Module | None:
        """Return the model's UNet, or None if it has none."""
        ...

    def unet_dtype(self, model: Any) -> torch.dtype:
        """Return the dtype in which the UNet computes."""
        ...

    def empty_prompt(self, model: Any) -> Tensor:
        """Return the conditioning [1 chunk d] of an empty prompt."""
        ...

    def equal_lengths(self, model: Any, params: Any, run: Run) -> None:
        """Pad `text_cond` and `text_uncond` of the host's `CFGDenoiserParams` to equal numbers of tokens.

        `text_uncond` may be None.
        """
        ...

    def scheduled(self, model: Any, schedule: Schedule, p: Any) -> AbstractContextManager[None]:
        """Replace the model's noise schedule by a motion module's, with the host's options for schedules applied."""
        ...

    def alphas_cumprod(self, model: Any) -> Tensor:
        """Return ᾱ [timesteps] of the current schedule, on the CPU."""
        ...

    def timestep_alphas(self, denoiser: Any) -> Tensor | None:
        """Return ᾱ [timesteps] if the denoiser takes timesteps and returns ε (DDIM and related samplers), else None."""
        ...

    def renew(self, denoiser: Any) -> None:
        """Make the sampler read the schedule again. It read σ from the model when it was created."""
        ...

    def called(self, model: Any, run: Run) -> AbstractContextManager[None]:
        """Send the host's calls of the UNet through `run`, except those that are not for the clip."""
        ...

    def make_room(self, bytes: int) -> None:
        """Free `bytes` of memory on the device."""
        ...

    def waiting(self, model: Any) -> list[Any]:
        """Return the networks that sampling does not use and that the host leaves on the device."""
        ...

    def back_to(self, info: Any, p: Any) -> None:
        """Load a checkpoint again, by the host's `CheckpointInfo`."""
        ...
