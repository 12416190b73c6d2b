"""Make a clip in several sampler runs: FreeInit's iterations and the seam repair."""
from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from animatediff.clip.plan import Pass, Plan
from animatediff.clip.resume import Keeper, Stage
from animatediff.sampling import Event, OnEvent, freeinit, noise
from animatediff.sampling.from_pictures import FromPictures

Sources = list[torch.Generator]


class SampleOnce(Protocol):
    """One run of a backend's sampler."""

    def __call__(self, part: Pass, start: Tensor, sources: Sources, on_event: OnEvent, **more: Any) -> Tensor:
        """Return latents [f c h w] of the whole clip, or of the frames of `part.seam`.

        start: unit noise [f c h w].
        sources: generators that draw the noise of these frames.
        more: `clean`, `held` and `stage`, as SamplerRun takes them.
        """
        ...


@dataclass(frozen=True)
class Iterations:
    """The sampler runs of one clip."""

    plan: Plan
    sample_once: SampleOnce
    sources: Sources  # generators that draw the noise
    shape: tuple[int, int, int, int]  # of the clip's latents, [f c h w]
    device: torch.device
    given: FromPictures | None = None  # the pictures that the clip starts from

    def latents(self, keeper: Keeper, on_event: OnEvent) -> Tensor:
        """Return the clip's latents, float32 [f c h w].

        keeper: resumes an interrupted run, and saves the state of this one.
        """
        first = self._noise()
        begin = None if self.given is None else self.given.start(lambda: self._noise().to(self.device))
        latents = first.to(self.device)
        for number, part in enumerate(self.plan.iterations, 1):
            work = partial(self._iteration, number, part, first, begin, on_event)
            latents = keeper.stage(part.name, latents, self.sources, work)
        if repair := self.plan.repair:
            latents = keeper.stage(repair.name, latents, self.sources,
                                   lambda x, _: self._repaired(repair, x, on_event))
        return latents

    def _iteration(self, number: int, part: Pass, first: Tensor, begin: Tensor | None, on_event: OnEvent,
                   latents: Tensor, stage: Stage) -> Tensor:
        """Run one FreeInit iteration.

        first: noise of the first iteration. begin: latents of the start pictures.
        """
        def told(event: Event) -> None:
            on_event(replace(event, iteration=number, iterations=len(self.plan.iterations)))

        start = first
        if number > 1 and not stage.step:
            start = self._renewed(part, latents, first, begin)
        held = self.given and self.given.held
        return self.sample_once(part, start, self.sources, told, clean=begin, held=held, stage=stage)

    def _renewed(self, part: Pass, latents: Tensor, first: Tensor, begin: Tensor | None) -> Tensor:
        """Return the latents that FreeInit's next iteration starts from instead of noise."""
        level = float(self.plan.betas.alphas_cumprod()[-1]) if begin is None else part.sampler.sigma_max
        return freeinit.renewed(self.plan.settings, latents, first, self._noise(), level, begin)

    def _repaired(self, part: Pass, latents: Tensor, on_event: OnEvent) -> Tensor:
        """Return the clip with the frames around its seam denoised again, in one window."""
        seam = part.seam
        assert seam is not None
        index = list(seam.window)
        own = [self.sources[i] for i in index] if len(self.sources) > 1 else self.sources
        start = noise.draw(own, (len(index), *self.shape[1:])).to(self.device)
        held = seam.held(latents, self.given.held if self.given else None).of(index)

        def told(event: Event) -> None:
            on_event(replace(event, latents=latents))  # of the whole clip, not of the window

        latents[index] = self.sample_once(part, start, own, told, clean=held.pictures, held=held)
        return latents

    def _noise(self) -> Tensor:
        return noise.draw(self.sources, self.shape)
