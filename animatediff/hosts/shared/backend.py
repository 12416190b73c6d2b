"""What differs between the hosts that share the WebUI's processing: their checkpoints, and the calls of their UNet."""
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

# x [n c h w], numbers of these rows in the host's batch [n] -> the model's answer for them, the same shape.
OfRows = Callable[[Tensor, Tensor], Tensor]


class Run(Protocol):
    """A sampling pass, as the host's calls see it."""

    settings: Settings
    memory: WhileSampling
    error: Exception | None  # what the next call raises
    parts: list[list[float]] | None  # weights of each frame's parts of AND; None while the denoiser is not at work

    def answer(self, rows: Rows, x: Tensor, t: Tensor, of_rows: OfRows) -> Tensor:
        """The model's answer for the clip, window by window. x [rows c h w], t [rows]: timesteps or noise levels."""
        ...


class Backend(Protocol):
    """`model`: the host's `shared.sd_model`. `denoiser`: the sampler's `model_wrap_cfg`."""

    equal_parts: bool  # whether AND must have equally many parts in all frames

    def loaded(self) -> Any:
        """The model in memory; None if there is none yet. Loads nothing."""
        ...

    def unet(self, model: Any) -> nn.Module | None:
        """None for a model that has no UNet."""
        ...

    def unet_dtype(self, model: Any) -> torch.dtype:
        """In which the UNet computes."""
        ...

    def empty_prompt(self, model: Any) -> Tensor:
        """[1 chunk d], the conditioning of an empty prompt."""
        ...

    def equal_lengths(self, model: Any, cond: Any, uncond: Any) -> tuple[Any, Any]:
        """What the host's denoiser is about to use, with equal numbers of tokens. It may have no `uncond`."""
        ...

    def scheduled(self, model: Any, schedule: Schedule, p: Any) -> AbstractContextManager[None]:
        """A motion module's noise schedule in place of the model's, with the host's options for schedules applied."""
        ...

    def alphas_cumprod(self, model: Any) -> Tensor:
        """ᾱ [steps] of the schedule in force, on the CPU."""
        ...

    def timestep_alphas(self, denoiser: Any) -> Tensor | None:
        """ᾱ [steps] where the denoiser takes timesteps and answers with ε (DDIM and its kin)."""
        ...

    def renew(self, denoiser: Any) -> None:
        """Have the sampler read the schedule anew: it took σ from the model when it was made."""
        ...

    def called(self, model: Any, run: Run) -> AbstractContextManager[None]:
        """The host's calls of the UNet go through `run`, except those that are not for the clip."""
        ...

    def make_room(self, bytes: int) -> None:
        """On the device, for what is about to be put there."""
        ...

    def waiting(self, model: Any) -> list[Any]:
        """Networks of which sampling makes no use, and which the host leaves on the device."""
        ...

    def back_to(self, info: Any, p: Any) -> None:
        """Load a checkpoint again, by the host's `CheckpointInfo`."""
        ...
