"""One run's way from noise to latents: FreeInit's iterations, and the repair of the seam."""
from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from animatediff.clip.plan import Pass, Plan
from animatediff.clip.resume import Keeper, Stage
from animatediff.engine.unet_call import UNetCall
from animatediff.errors import ModelError
from animatediff.motion import injected
from animatediff.motion import lora as motion_lora
from animatediff.sampling import Event, OnEvent, freeinit, memory, noise
from animatediff.sampling.events import shortage_told
from animatediff.sampling.from_pictures import FromPictures, Held
from animatediff.sampling.mixing import TravellingPrompt
from animatediff.unet.prompts_once import prompts_once

if TYPE_CHECKING:
    from animatediff.engine.pipeline import Pipeline


class Sampling:
    """One run of a plan."""

    def __init__(self, pipeline: Pipeline, plan: Plan):
        self.pipeline, self.plan, self.settings = pipeline, plan, plan.settings

    @torch.no_grad()
    def latents(self, on_event: OnEvent, keeper: Keeper) -> Tensor:
        """[f c h w] in float32, as the VAE's encoder scales them. keeper: of the run's state."""
        pipeline, s = self.pipeline, self.settings
        shape = (s.frames, pipeline.unet.config.in_channels, s.height // pipeline.scale, s.width // pipeline.scale)
        sources = noise.generators(s.noise, s.seed, s.frames, s.context_length, s.overlap_frames)
        first = noise.draw(sources, shape)
        in_use = memory.WhileSampling(pipeline.device, shortage_told(on_event), lambda: (pipeline.vae, pipeline.text),
                                      s.windows_per_call, pipeline.unet, pipeline.module)
        call = self._unet_call(in_use)
        given = self._from_pictures()
        begin = None if given is None else given.start(lambda: noise.draw(sources, shape).to(pipeline.device))
        held = None if given is None else given.held
        latents = first.to(pipeline.device)
        with in_use, self._motion(call):
            for iteration, part in enumerate(self.plan.iterations, 1):
                def told(event: Event, iteration: int = iteration) -> None:
                    on_event(dataclasses.replace(event, iteration=iteration, iterations=len(self.plan.iterations)))

                def work(x: Tensor, stage: Stage, iteration: int = iteration, part: Pass = part) -> Tensor:
                    again = iteration > 1 and not stage.step
                    begins = self._renewed(part, x, begin, first, noise.draw(sources, shape)) if again else first
                    return self.sampled(part, call, begins, sources, told, clean=begin, held=held, stage=stage)

                latents = keeper.stage(part.name, latents, sources, work)
            if repair := self.plan.repair:
                latents = keeper.stage(repair.name, latents, sources,
                                       lambda x, _: self._repaired(repair, x, call, sources, on_event, held))
        if not torch.isfinite(latents).all():
            raise ModelError(f"sampling in {pipeline.dtype} ran over its range of numbers", where="dtype",
                             remedy="Use bf16 or fp32")
        return keeper.stage("decoding", latents, sources, lambda x, _: x)

    def sampled(self, part: Pass, call: UNetCall, start: Tensor, sources: list[torch.Generator],
                on_event: OnEvent, **more: Any) -> Tensor:
        """One iteration, from unit noise on the CPU to latents. more: of samplers.Run."""
        run = part.run
        loop = part.context.denoiser(call, run.steps, on_event, lambda: call.memory.at_once)
        if stage := more.get("stage"):
            stage.can_begin = lambda step: call.reuse.is_whole(step, run.steps)

        def report(step: int, estimate: Tensor) -> None:
            on_event(Event("step", step + 1, run.steps, step=step + 1, steps=run.steps, latents=estimate))

        def denoise(x: Tensor, t: Tensor, step: int) -> Tensor:
            call.step, call.steps = step, run.steps
            return loop(x, t, step=step)

        return run(denoise, start.to(self.pipeline.device), sources, report, **more)

    def _unet_call(self, in_use: memory.WhileSampling) -> UNetCall:
        """With each distinct prompt encoded once."""
        pipeline, s = self.pipeline, self.settings
        schedules = self.plan.inputs.prompt, self.plan.inputs.negative
        encoded = pipeline.text.encode(*(schedule.texts for schedule in schedules))
        prompts = [TravellingPrompt(*pair).to(pipeline.device) for pair in zip(schedules, encoded)]
        return UNetCall(pipeline.unet, s, prompts[:1] if s.cfg == 1 else prompts, pipeline.dtype, in_use,
                        self.plan.steering)

    @contextmanager
    def _motion(self, call: UNetCall) -> Iterator[None]:
        """The motion module with its LoRAs is in the UNet, for the length of the block."""
        pipeline, s = self.pipeline, self.settings
        with ExitStack() as scope:
            if s.enable:
                weighted = self.plan.loras
                scope.callback(pipeline.module.release)
                scope.enter_context(motion_lora.applied(pipeline.module, weighted, s.frames))
                scope.enter_context(motion_lora.applied_to_unet(pipeline.unet, weighted, s.frames, call.layout_of))
                layout_of = call.reuse.layout_of(call.layout_of)
                scope.enter_context(injected(pipeline.unet, pipeline.module, layout_of, call.steer_of))
            scope.enter_context(prompts_once(pipeline.unet))
            scope.enter_context(call.reuse.installed(pipeline.unet))
            yield

    def _from_pictures(self) -> FromPictures | None:
        given = self.plan.inputs.pictures
        if given is None:
            return None
        first = torch.cat([self.pipeline.encode(picture) for picture in given.first])
        last = self.pipeline.encode(given.last[0]) if len(given.last) else None
        return FromPictures(self.settings, first, last, each=len(first) > 1)

    def _renewed(self, part: Pass, latents: Tensor, begin: Tensor | None,
                 first: Tensor, fresh: Tensor) -> Tensor:
        """What FreeInit's next iteration starts from in place of noise. begin: the pictures that the clip
        starts from; first: the first iteration's noise."""
        if begin is None:
            seen = freeinit.diffused(latents, first, float(self.pipeline.module.family.betas.alphas_cumprod()[-1]))
        else:
            seen = freeinit.diffused_over(begin, latents, first, part.run.sigma_max)
        return freeinit.renewed(self.settings, seen, fresh)

    def _repaired(self, part: Pass, latents: Tensor, call: UNetCall, sources: list[torch.Generator], on_event: OnEvent,
                  held: Held | None) -> Tensor:
        """The clip with the frames around its seam denoised again, in one window. Those that are held stay."""
        seam, run = part.seam, part.run
        index = list(seam.window)
        own = [sources[i] for i in index] if len(sources) > 1 else sources
        finished = latents[index]
        start = noise.draw(own, tuple(finished.shape)).to(self.pipeline.device)

        def denoise(x: Tensor, t: Tensor, step: int) -> Tensor:
            call.step, call.steps = step, run.steps
            out = call(x, t, seam.window)
            on_event(Event("window", 1, 1, step=step + 1, steps=seam.steps, frames=seam.window, latents=latents))
            return out

        latents[index] = run(denoise, start, own, clean=finished,
                             hold=seam.holder(finished, start, run.noised), held=held and held.to_the_end(index))
        return latents
