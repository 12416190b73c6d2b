"""What a host lends to the clips that are made in it."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from animatediff.motion import BetaSchedule, MotionModule
from animatediff.settings import Settings


class SamplerRun(Protocol):
    """A sampler whose steps are placed. It keeps nothing of a run, so that it can be called any number of times."""

    steps: int  # that are done
    sigma_max: float  # the level at which they start, as the standard deviation of noise beside a picture

    @property
    def call_steps(self) -> list[int]:
        """The step (0-based) of each call of the denoiser."""
        ...

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
    """A UNet with a motion module, and what surrounds them."""

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

    def sampler(self, settings: Settings, betas: BetaSchedule, steps: int, strength: float | None) -> SamplerRun:
        """The settings' sampler with its steps placed. strength: 0 to 1, of a run that starts from latents, which does
        the later part of `steps`; None for one from noise alone."""
        ...

    def notices(self, settings: Settings, prompts: Sequence[str]) -> list[str]:
        """What a user may not expect of this backend's sampler and text encoder."""
        ...
