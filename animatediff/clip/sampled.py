"""The sampler settings of a clip, from its settings or from the host's own controls."""
from __future__ import annotations

from dataclasses import dataclass

from animatediff.sampling.from_pictures import run_strength, steps_placed
from animatediff.settings import Settings


@dataclass(frozen=True)
class Sampled:
    """Sampler settings of one run, and of the second pass after it."""

    sampler: str = "Euler"  # name in the WebUI
    schedule_type: str = "Automatic"  # name in the WebUI
    steps: int = 20
    cfg: float = 7.0
    strength: float | None = None  # denoising strength of a run that starts from pictures; None for noise alone
    exact: bool = False  # whether a run from pictures does all `steps`, not only the last part (an option of the WebUI)
    second: Sampled | None = None  # second pass over the first pass's clip (Hires. fix)

    @classmethod
    def of(cls, settings: Settings, frames: int, *, from_picture: bool) -> Sampled:
        """Return the sampler settings of a clip of `frames` frames."""
        return cls(settings.sampler, settings.schedule_type, settings.steps, settings.cfg,
                   run_strength(settings, frames) if from_picture else None)

    @property
    def done(self) -> int:
        """Number of steps that are done."""
        return steps_placed(self.steps, self.strength, exact=self.exact)[1]

    @property
    def from_picture(self) -> bool:
        return self.strength is not None
