"""The interface between a clip and the host that samples it: UNet, motion module, sampler and model files."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from animatediff.clip.inputs import Inputs
from animatediff.clip.sampled import Sampled
from animatediff.motion import BetaSchedule, MotionModule


class Steps(Protocol):
    """The steps of one sampler run, as far as they are known before the run."""

    @property
    def steps(self) -> int:
        """Number of steps that call the denoiser."""
        ...

    @property
    def call_steps(self) -> list[int] | None:
        """The step (0-based) of each denoiser call, or None if it is not known before the run."""
        ...


class SamplerRun(Steps, Protocol):
    """A sampler that a backend can call itself. It has no state, so it can be called any number of times."""

    sigma_max: float  # noise level at which it starts: standard deviation of the noise added to a picture

    def __call__(self, *args: Any, **more: Any) -> Tensor:
        """Return the sampled latents [f c h w].

        Positional arguments: denoise(x, t, step), unit noise [f c h w], the generators that drew the noise, and
        on_step(step, estimate).
        more: `clean`, `held` and `stage`, see clip.iterate.
        """
        ...


@dataclass(frozen=True)
class Models:
    """The model files of a backend, for provenance."""

    checkpoint: str
    checkpoint_file: Path | None = None
    module_file: Path | None = None
    shipped: tuple[Path, ...] = ()  # files that are part of the program; in settings their name is ""
    libraries: Mapping[str, str] = field(default_factory=dict)  # versions of the libraries that compute the clip


class Backend(Protocol):
    """A UNet with its motion module, and the facts about them and the sampler that a plan needs."""

    @property
    def unet(self) -> nn.Module: ...

    @property
    def module(self) -> MotionModule | None:
        """The motion module, or None if the backend makes only stills."""
        ...

    @property
    def models(self) -> Models: ...

    @property
    def device(self) -> torch.device: ...

    @property
    def dtype(self) -> torch.dtype: ...

    @property
    def own_size(self) -> str:
        """The image model's native size in pixels, WIDTHxHEIGHT."""
        ...

    @property
    def own_betas(self) -> BetaSchedule:
        """The image model's noise schedule, used for stills."""
        ...

    def sampler(self, sampled: Sampled, betas: BetaSchedule) -> Steps:
        """Return the steps of one sampler run.

        The result is a SamplerRun if the backend calls the sampler itself. `sampled.second` is ignored: the second
        pass is a separate run.
        """
        ...

    def grid(self, sampled: Sampled) -> str:
        """Return the schedule type in effect, see few_steps.Run."""
        ...

    def notices(self, inputs: Inputs) -> list[str]:
        """Return notices on how this backend's sampler and prompts differ from what a user may expect."""
        ...
