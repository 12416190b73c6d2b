"""Run a plan on diffusers' networks: encode prompts and pictures, and sample latents."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from animatediff.clip import strength
from animatediff.clip.iterate import Iterations, Start
from animatediff.clip.plan import Pass, Plan
from animatediff.clip.resume import Keeper
from animatediff.clip.scope import in_unet
from animatediff.engine import vae
from animatediff.engine.components import Components
from animatediff.engine.unet_call import UNetCall
from animatediff.errors import ModelError
from animatediff.motion import MotionModule, lora
from animatediff.sampling import Event, OnEvent, memory, noise
from animatediff.sampling.events import report_fallbacks
from animatediff.sampling.from_pictures import FromPictures, enlarged
from animatediff.sampling.mixing import TravellingPrompt
from animatediff.sampling.seam import Seam


class Sampling:
    """A run of a plan, and its `ClipSampler`. module: the motion module; it is not used for stills."""

    interrupted = False  # Ctrl-C raises KeyboardInterrupt

    def __init__(self, parts: Components, module: MotionModule | None, plan: Plan, on_event: OnEvent):
        self.parts, self.module, self.plan, self.settings, self.on_event = parts, module, plan, plan.settings, on_event
        self.memory = memory.WhileSampling(parts.device, report_fallbacks(on_event), lambda: (parts.vae, parts.text),
                                           plan.settings.windows_per_call, parts.unet, module)
        self.call = UNetCall(parts.unet, plan.settings, self._prompts(), parts.dtype, self.memory, plan.steering)
        s = self.settings
        self.shape = s.frames, parts.channels, s.height // parts.scale, s.width // parts.scale  # of the latents
        self.sources = noise.generators(s.noise, s.seed, s.frames, s.context_length, s.overlap_frames)

    @torch.no_grad()
    def latents(self, keeper: Keeper) -> Tensor:
        """Return latents [f c h w] in float32, scaled like the VAE encoder's.

        keeper: saves and restores the run's state. Raise ModelError if sampling overflows.
        """
        iterations = Iterations(self.settings, self.plan.sampling, self, self.on_event, self.sources)
        first = self._start()
        with self.memory, self._motion():
            latents = iterations.latents(first, keeper)
        if not torch.isfinite(latents).all():
            raise ModelError(f"sampling in {self.parts.dtype} overflowed the range of its numbers", where="dtype",
                             remedy="Use bf16 or fp32")
        return keeper.stage("decoding", latents, self.sources, lambda x, _: x)

    def _start(self) -> Start:
        """Return the start of the first run. Its noise is drawn before the noise that is mixed into start pictures."""
        given, part = self._from_pictures(), self.plan.iterations[0]
        first = Start(self.noise(part))
        return first if given is None else replace(first, clean=given.start(lambda: self.noise(part)), held=given.held)

    def noise(self, part: Pass) -> Tensor:
        """Draw new noise for a run. In a seam repair, that of the frames outside the seam's window is 0."""
        if part.seam is None:
            return noise.draw(self.sources, self.shape).to(self.parts.device)
        index, drawn = list(part.seam.window), torch.zeros(self.shape)
        drawn[index] = noise.draw(self._generators(part), (len(index), *self.shape[1:]))
        return drawn.to(self.parts.device)

    def _generators(self, part: Pass) -> list[torch.Generator]:
        """Return the generators of the frames that a run samples."""
        if part.seam is None or len(self.sources) == 1:
            return self.sources
        return [self.sources[frame] for frame in part.seam.window]

    def start_level(self, part: Pass) -> float:
        if self.plan.inputs.pictures is not None:
            return part.sampler.sigma_max
        return float(self.plan.betas.alphas_cumprod()[-1])

    def sample_once(self, part: Pass, start: Start, on_event: OnEvent) -> Tensor:
        call, run = self.call, part.sampler
        if seam := part.seam:
            assert start.clean is not None, "the finished clip"
            sampled = self._run(part, start.of(seam.window), self._at_seam(seam, start.clean, on_event))
            return start.clean.index_copy(0, torch.tensor(seam.window, device=sampled.device), sampled)
        if start.stage:
            start.stage.can_begin = lambda step: call.reuse.is_whole(step, run.steps)

        def report(step: int, estimate: Tensor) -> None:
            on_event(Event("step", step + 1, run.steps, step=step + 1, steps=run.steps, latents=estimate))

        denoise = part.context.denoiser(call, run.steps, on_event, lambda: call.memory.at_once)
        return self._run(part, start, denoise, report)

    def _run(self, part: Pass, start: Start, denoise: Any, report: Callable[[int, Tensor], None] | None = None
             ) -> Tensor:
        """Call the sampler for the frames of `start`. report: called after each step with x₀'s estimate."""
        call, run = self.call, part.sampler

        def in_step(x: Tensor, t: Tensor, step: int) -> Tensor:
            call.step, call.steps = step, run.steps
            return denoise(x, t, step=step)

        return run(in_step, start.noise, self._generators(part), report, clean=start.clean, held=start.held,
                   stage=start.stage)

    def _at_seam(self, seam: Seam, clip: Tensor, on_event: OnEvent) -> Any:
        """Return a denoiser of the single window across the seam. clip: latents of all frames, for previews."""
        def denoise(x: Tensor, t: Tensor, *, step: int) -> Tensor:
            out = self.call(x, t, seam.window)
            on_event(Event("window", 1, 1, step=step + 1, steps=seam.steps, frames=seam.window, latents=clip))
            return out

        return denoise

    def _prompts(self) -> list[TravellingPrompt]:
        """Return the conditioning of each role. Each distinct prompt is encoded once."""
        schedules = self.plan.inputs.prompt, self.plan.inputs.negative
        encoded = self.parts.text.encode(*(schedule.texts for schedule in schedules))
        prompts = [TravellingPrompt(*pair).to(self.parts.device) for pair in zip(schedules, encoded)]
        return prompts[:1] if self.settings.cfg == 1 else prompts

    @contextmanager
    def _motion(self) -> Iterator[None]:
        """Inject the motion module with its LoRAs into the UNet within the context. Stills have no motion module."""
        loras, frames = self.plan.loras, self.settings.frames
        module = self.module if self.settings.enable else None
        with ExitStack() as stack:
            if module is not None:
                stack.callback(module.release)
                stack.enter_context(lora.applied(module, loras, frames))
            stack.enter_context(in_unet(self.parts.unet, module, loras, frames, self.call))
            yield

    def _from_pictures(self) -> FromPictures | None:
        given = self.plan.inputs.pictures
        if given is None:
            return None
        first = torch.cat([vae.encode(self.parts.vae, picture) for picture in given.first])
        first = enlarged(first, self.settings.height // self.parts.scale, self.settings.width // self.parts.scale)
        last = vae.encode(self.parts.vae, given.last[0]) if len(given.last) else None
        until = strength.until(self.settings, self.settings.steps, given.mask, (first.shape[2], first.shape[3]))
        return FromPictures(self.settings, first, last, each=len(first) > 1, until=until)
