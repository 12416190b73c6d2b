"""One run's way from noise to latents: FreeInit's iterations, and the repair of the seam."""
from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from animatediff import windows
from animatediff.engine import pictures, samplers
from animatediff.clip.resume import Keeper, Stage
from animatediff.engine.unet_call import UNetCall
from animatediff.errors import ModelError
from animatediff.layout import Views
from animatediff.motion import injected
from animatediff.motion import lora as motion_lora
from animatediff.sampling import Event, OnEvent, WindowedDenoiser, betas, freeinit, memory, noise
from animatediff.sampling.events import ignore, shortage_told
from animatediff.sampling.from_pictures import FromPictures, Held
from animatediff.sampling.mixing import TravellingPrompt
from animatediff.sampling.seam import Seam
from animatediff.settings import Settings
from animatediff.unet.prompts_once import prompts_once
from animatediff.unet.reuse import Reuse

if TYPE_CHECKING:
    from animatediff.engine.pipeline import Pipeline


class Sampling:
    """A run of `settings`, as Pipeline.resolve and check left them."""

    def __init__(self, pipeline: Pipeline, settings: Settings):
        self.pipeline, self.settings = pipeline, settings

    @property
    def betas(self) -> betas.Schedule:
        """The motion module's noise schedule; the image model's own for stills."""
        module = self.pipeline.module
        return module.family.betas if self.settings.enable and module else self.pipeline.components.betas

    @cached_property
    def iterations(self) -> list[Settings]:
        """The settings of each of FreeInit's iterations; stills have one, since it ties frames together."""
        steps = self.settings.iterations(self.settings.steps) if self.settings.enable else [self.settings.steps]
        return [dataclasses.replace(self.settings, steps=count) for count in steps]

    @cached_property
    def seam(self) -> Seam | None:
        """What of the clip is made anew around its seam; a clip that plays to and fro has none."""
        s = self.settings
        frames = s.frame_count()
        if not s.enable or windows.to_and_fro(frames, s.context_length, s.closed_loop):
            return None
        return Seam.of(frames, s.context_length, s.seam_repair, s.steps)

    def sampler(self, settings: Settings) -> samplers.Run:
        """The steps of one iteration."""
        return samplers.Run(settings.sampler, self.betas, settings.steps, schedule_type=settings.schedule_type,
                            prediction_type=self.pipeline.components.prediction,
                            strength=settings.denoising_strength if settings.init else None)

    def whole_sampler(self) -> samplers.Run:
        """All steps, where the clip itself, which starts from pictures, does fewer."""
        return self.sampler(dataclasses.replace(self.settings, init="", last_frame=""))

    def windowed(self, call: UNetCall | None, settings: Settings, steps: int, on_event: OnEvent = ignore
                 ) -> WindowedDenoiser:
        """Without a motion module frames do not know each other: plain batches of the context length."""
        clip = dict(stride=settings.stride, overlap=settings.overlap, closed_loop=settings.closed_loop,
                    schedule=settings.context_schedule, method=settings.fuse_method)
        stills = dict(schedule="batched", overlap=0)
        return WindowedDenoiser(call, settings.frame_count(), settings.context_length, steps=steps, on_event=on_event,
                                per_call=lambda: call.memory.at_once, **(clip if settings.enable else stills))

    def calls(self, found: dict | None = None) -> int:
        """UNet calls of the run (windows over all steps), for progress and estimates. found: the state of one that was
        cut off, of which they are the rest."""
        counted = {}
        for iteration, part in enumerate(self.iterations, 1):
            run = self.sampler(part)
            loop = self.windowed(None, part, run.steps)
            counted[_stage_name(iteration)] = [(step, len(loop.plan(step))) for step in run.call_steps]
        if self.seam:
            counted["seam repair"] = [(step, int(step >= self.seam.first)) for step in self.whole_sampler().call_steps]
        stages, done = list(counted), 0
        if found:
            stages, done = stages[stages.index(found["stage"]):] if found["stage"] in stages else [], found["step"]
        return sum(calls for stage in stages for step, calls in counted[stage] if stage != stages[0] or step >= done)

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
            for iteration, part in enumerate(self.iterations, 1):
                def told(event: Event, iteration: int = iteration) -> None:
                    on_event(dataclasses.replace(event, iteration=iteration, iterations=len(self.iterations)))

                def work(x: Tensor, stage: Stage, iteration: int = iteration, part: Settings = part) -> Tensor:
                    again = iteration > 1 and not stage.step
                    begins = self._renewed(part, x, begin, first, noise.draw(sources, shape)) if again else first
                    return self.sampled(part, call, begins, sources, told, clean=begin, held=held, stage=stage)

                latents = keeper.stage(_stage_name(iteration), latents, sources, work)
            if self.seam:
                latents = keeper.stage("seam repair", latents, sources,
                                       lambda x, _: self._repaired(x, call, sources, on_event, held))
        if not torch.isfinite(latents).all():
            raise ModelError(f"sampling in {pipeline.dtype} ran over its range of numbers", where="dtype",
                             remedy="Use bf16 or fp32")
        return keeper.stage("decoding", latents, sources, lambda x, _: x)

    def sampled(self, settings: Settings, call: UNetCall, start: Tensor, sources: list[torch.Generator],
                on_event: OnEvent, **more: Any) -> Tensor:
        """One iteration, from unit noise on the CPU to latents. more: of samplers.Run."""
        run = self.sampler(settings)
        loop = self.windowed(call, settings, run.steps, on_event)
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
        schedules = pipeline.schedules(s)
        encoded = pipeline.text.encode(*(schedule.texts for schedule in schedules))
        prompts = [TravellingPrompt(*pair).to(pipeline.device) for pair in zip(schedules, encoded)]
        return UNetCall(pipeline.unet, prompts[:1] if s.cfg == 1 else prompts, s.cfg, pipeline.dtype, in_use,
                        pipeline.steering(s), lambda frames, step: Views.of(s, s.frames, frames, step), Reuse(s.speed))

    @contextmanager
    def _motion(self, call: UNetCall) -> Iterator[None]:
        """The motion module with its LoRAs is in the UNet, for the length of the block."""
        pipeline, s = self.pipeline, self.settings
        with ExitStack() as scope:
            if s.enable:
                weighted = pipeline.loras(s)
                scope.callback(pipeline.module.release)
                scope.enter_context(motion_lora.applied(pipeline.module, weighted, s.frames))
                scope.enter_context(motion_lora.applied_to_unet(pipeline.unet, weighted, s.frames, call.layout_of))
                layout_of = call.reuse.layout_of(call.layout_of)
                scope.enter_context(injected(pipeline.unet, pipeline.module, layout_of, call.steer_of))
            scope.enter_context(prompts_once(pipeline.unet))
            scope.enter_context(call.reuse.installed(pipeline.unet))
            yield

    def _from_pictures(self) -> FromPictures | None:
        given = pictures.load(self.settings)
        if given is None:
            return None
        first = torch.cat([self.pipeline.encode(picture) for picture in given.first])
        last = self.pipeline.encode(given.last[0]) if len(given.last) else None
        return FromPictures(self.settings, first, last, each=len(first) > 1)

    def _renewed(self, settings: Settings, latents: Tensor, begin: Tensor | None,
                 first: Tensor, fresh: Tensor) -> Tensor:
        """What FreeInit's next iteration, that of the settings, starts from in place of noise. begin: the pictures that
        the clip starts from; first: the first iteration's noise."""
        if begin is None:
            seen = freeinit.diffused(latents, first, float(self.betas.alphas_cumprod()[-1]))
        else:
            seen = freeinit.diffused_over(begin, latents, first, self.sampler(settings).sigma_max)
        return freeinit.renewed(settings, seen, fresh)

    def _repaired(self, latents: Tensor, call: UNetCall, sources: list[torch.Generator], on_event: OnEvent,
                  held: Held | None) -> Tensor:
        """The clip with the frames around its seam denoised again, in one window. Those that are held stay."""
        seam, run = self.seam, self.whole_sampler()
        index = list(seam.window)
        own = [sources[i] for i in index] if len(sources) > 1 else sources
        finished = latents[index]
        start = noise.draw(own, tuple(finished.shape)).to(self.pipeline.device)

        def denoise(x: Tensor, t: Tensor, step: int) -> Tensor:
            call.step, call.steps = step, run.steps
            out = call(x, t, seam.window)
            on_event(Event("window", 1, 1, step=step + 1, steps=seam.steps, frames=seam.window, latents=latents))
            return out

        latents[index] = run(denoise, start, own, clean=finished, first=seam.first,
                             hold=seam.holder(finished, start, run.noised), held=held and held.to_the_end(index))
        return latents


def _stage_name(iteration: int) -> str:
    return "sampling" if iteration == 1 else f"FreeInit iteration {iteration}"
