"""How a clip is sampled: what the settings, or the host's own controls, ask of the sampler."""
from __future__ import annotations

from dataclasses import dataclass

from animatediff.sampling.from_pictures import run_strength, steps_placed
from animatediff.settings import Settings


@dataclass(frozen=True)
class Sampled:
    """sampler, schedule_type: by their names in the WebUI. strength: denoising strength of a run that starts from
    pictures; None for one from noise alone. exact: such a run does all `steps`, not the later part of them (an option
    of the WebUI). second: the second pass, over the first one's clip (Hires. fix)."""

    sampler: str = "Euler"
    schedule_type: str = "Automatic"
    steps: int = 20
    cfg: float = 7.0
    strength: float | None = None
    exact: bool = False
    second: Sampled | None = None

    @classmethod
    def of(cls, settings: Settings, frames: int, *, from_picture: bool) -> Sampled:
        """As the settings say for a clip of so many frames."""
        return cls(settings.sampler, settings.schedule_type, settings.steps, settings.cfg,
                   run_strength(settings, frames) if from_picture else None)

    @property
    def done(self) -> int:
        """Steps that are done."""
        return steps_placed(self.steps, self.strength, exact=self.exact)[1]

    @property
    def from_picture(self) -> bool:
        return self.strength is not None
