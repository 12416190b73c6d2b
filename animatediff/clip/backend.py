"""What a host lends to the clips that are made in it."""
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
    """The steps of one run of a sampler, as far as they are known before it."""

    @property
    def steps(self) -> int:
        """Those in which the denoiser is called."""
        ...

    @property
    def call_steps(self) -> list[int] | None:
        """The step (0-based) of each call of the denoiser; None where only the run itself can tell."""
        ...


class SamplerRun(Steps, Protocol):
    """A sampler that a backend can call itself. It keeps nothing of a run, so that it can be called any number of
    times."""

    sigma_max: float  # the level at which it starts, as the standard deviation of noise beside a picture

    def __call__(self, *args: Any, **more: Any) -> Tensor:
        """denoise(x, t, step), unit noise [f c h w], what drew it, on_step(step, estimate) -> latents [f c h w]. more:
        `clean`, `held` and `stage` of clip.iterate."""
        ...


@dataclass(frozen=True)
class Models:
    """The files of a backend's networks, for provenance. shipped: those of the program itself, which settings name by
    nothing. libraries: versions of what computes."""

    checkpoint: str
    checkpoint_file: Path | None = None
    module_file: Path | None = None
    shipped: tuple[Path, ...] = ()
    libraries: Mapping[str, str] = field(default_factory=dict)


class Backend(Protocol):
    """A UNet with a motion module, and what surrounds them, as far as a plan is made with them."""

    @property
    def unet(self) -> nn.Module: ...

    @property
    def module(self) -> MotionModule | None:
        """None where there are stills alone."""
        ...

    @property
    def models(self) -> Models: ...

    @property
    def device(self) -> torch.device: ...

    @property
    def dtype(self) -> torch.dtype: ...

    @property
    def own_size(self) -> str:
        """WIDTHxHEIGHT in pixels that the image model was made for."""
        ...

    @property
    def own_betas(self) -> BetaSchedule:
        """The image model's noise schedule, for stills."""
        ...

    def sampler(self, sampled: Sampled, betas: BetaSchedule) -> Steps:
        """One run of the sampler with its steps placed: a SamplerRun where this backend calls it itself. `second` of
        `sampled` is a run of its own."""
        ...

    def grid(self, sampled: Sampled) -> str:
        """The schedule type that acts, as few_steps.Run has it."""
        ...

    def notices(self, inputs: Inputs) -> list[str]:
        """What a user may not expect of this backend's sampler and prompts."""
        ...
