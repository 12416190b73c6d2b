"""Make a clip in several sampler runs: FreeInit's iterations and the seam repair. All hosts use this loop."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from animatediff.clip.plan import Pass, Passes
from animatediff.clip.resume import Keeper, Stage
from animatediff.sampling import Event, OnEvent, freeinit
from animatediff.sampling.from_pictures import Held
from animatediff.settings import Settings


@dataclass(frozen=True)
class Start:
    """The start of a sampler run. All latents are [f c h w], of the whole clip unless `of` selected frames."""

    noise: Tensor  # of unit variance, unless the host scales it
    clean: Tensor | None = None  # latents of pictures that the noise is added to, as in img2img; None: noise alone
    held: Held | None = None  # frames that are held to pictures during the run
    stage: Stage | None = None  # saved state of the run; None: the run cannot be resumed in its middle

    def of(self, frames: Sequence[int]) -> Start:
        """Return the part for these frames."""
        index = list(frames)
        return replace(self, noise=self.noise[index], clean=None if self.clean is None else self.clean[index],
                       held=self.held and self.held.of(index))


class ClipSampler(Protocol):
    """A host's sampler during one clip."""

    interrupted: bool  # whether the last run was interrupted; False in hosts that raise an error instead

    def noise(self, part: Pass) -> Tensor:
        """Draw new noise for a run, [f c h w]. In a seam repair, only the noise of the seam's window is used."""
        ...

    def start_level(self, part: Pass) -> float:
        """Return the noise level at which a run starts: σ if it starts from pictures, else ᾱ of the last timestep."""
        ...

    def sample_once(self, part: Pass, start: Start, on_event: OnEvent) -> Tensor:
        """Run the sampler once, and return the clip's latents [f c h w].

        In a seam repair, only the frames of the seam's window are sampled.
        """
        ...


@dataclass(frozen=True)
class Iterations:
    """The sampler runs that make a clip, or one of its passes."""

    settings: Settings
    passes: Passes
    sampler: ClipSampler
    on_event: OnEvent
    sources: Sequence[torch.Generator] = ()  # generators of the noise, whose states are saved with the run's state

    def latents(self, first: Start, keeper: Keeper | None = None) -> Tensor:
        """Return the latents of the last complete run, [f c h w].

        An interrupt ends the loop. If it comes in the first run, the result is what the host made of that run.
        first: start of the first iteration.
        keeper: resumes an interrupted run, and saves the state of this one.
        """
        keeper = keeper or Keeper()
        latents = first.noise
        for number, part in enumerate(self.passes.iterations, 1):
            work = partial(self._iteration, number, part, first)
            latents = keeper.stage(part.name, latents, self.sources, work)
            if self.sampler.interrupted:
                break
        if first.held is not None:
            latents = first.held.pinned(latents)
        if (repair := self.passes.repair) and not self.sampler.interrupted:
            latents = keeper.stage(repair.name, latents, self.sources, lambda x, _: self._repaired(repair, x, first))
        return latents

    def _iteration(self, number: int, part: Pass, first: Start, latents: Tensor, stage: Stage) -> Tensor:
        """Return the latents of one of FreeInit's iterations, or the given ones of the previous iteration if it is
        interrupted.

        From the second iteration on, the noise contains the low frequencies of the previous iteration's clip.
        """
        start = replace(first, stage=stage)
        if number > 1 and not stage.step:
            level = self.sampler.start_level(part)
            noise = freeinit.renewed(self.settings, latents, first.noise, self.sampler.noise(part), level, first.clean)
            start = replace(start, noise=noise.to(first.noise))
        sampled = self._sample_once(number, part, start)
        return latents if number > 1 and self.sampler.interrupted else sampled

    def _repaired(self, part: Pass, latents: Tensor, first: Start) -> Tensor:
        """Return the clip with the frames around its seam sampled again, or unchanged if the repair is interrupted."""
        assert part.seam is not None
        held = part.seam.held(latents, first.held)
        start = Start(self.sampler.noise(part).to(latents), latents, held)
        sampled = self._sample_once(len(self.passes.iterations) + 1, part, start)
        return latents if self.sampler.interrupted else held.pinned(sampled)

    def _sample_once(self, number: int, part: Pass, start: Start) -> Tensor:
        """Run the sampler once. `number` counts the runs from 1; all events of the run contain it."""
        def on_event(event: Event) -> None:
            self.on_event(replace(event, iteration=number, iterations=len(self.passes.iterations)))

        if number > 1:
            on_event(Event("iteration", number, len(self.passes.iterations)))
        return self.sampler.sample_once(part, start, on_event)
