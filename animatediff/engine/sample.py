"""Run a plan on diffusers' networks: encode prompts and pictures, and sample latents."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

from animatediff.clip import strength
from animatediff.clip.iterate import Iterations
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


class Sampling:
    """A run of a plan. module: the motion module; it is not used for stills."""

    def __init__(self, parts: Components, module: MotionModule | None, plan: Plan, on_event: OnEvent):
        self.parts, self.module, self.plan, self.settings, self.on_event = parts, module, plan, plan.settings, on_event
        self.memory = memory.WhileSampling(parts.device, report_fallbacks(on_event), lambda: (parts.vae, parts.text),
                                           plan.settings.windows_per_call, parts.unet, module)
        self.call = UNetCall(parts.unet, plan.settings, self._prompts(), parts.dtype, self.memory, plan.steering)

    @torch.no_grad()
    def latents(self, keeper: Keeper) -> Tensor:
        """Return latents [f c h w] in float32, scaled like the VAE encoder's.

        keeper: saves and restores the run's state. Raise ModelError if sampling overflows.
        """
        parts, s = self.parts, self.settings
        shape = (s.frames, parts.channels, s.height // parts.scale, s.width // parts.scale)
        sources = noise.generators(s.noise, s.seed, s.frames, s.context_length, s.overlap_frames)
        iterations = Iterations(self.plan, self.sample_once, sources, shape, parts.device, self._from_pictures())
        with self.memory, self._motion():
            latents = iterations.latents(keeper, self.on_event)
        if not torch.isfinite(latents).all():
            raise ModelError(f"sampling in {parts.dtype} overflowed the range of its numbers", where="dtype",
                             remedy="Use bf16 or fp32")
        return keeper.stage("decoding", latents, sources, lambda x, _: x)

    def sample_once(self, part: Pass, start: Tensor, sources: list[torch.Generator], on_event: OnEvent,
                    **more: Any) -> Tensor:
        """Run the sampler once, from unit noise [f c h w] to latents. more: arguments of `samplers.Run`."""
        call, run = self.call, part.sampler
        denoise = self._at_seam(part, on_event) if part.seam else \
            part.context.denoiser(call, run.steps, on_event, lambda: call.memory.at_once)
        if stage := more.get("stage"):
            stage.can_begin = lambda step: call.reuse.is_whole(step, run.steps)

        def report(step: int, estimate: Tensor) -> None:
            on_event(Event("step", step + 1, run.steps, step=step + 1, steps=run.steps, latents=estimate))

        def in_step(x: Tensor, t: Tensor, step: int) -> Tensor:
            call.step, call.steps = step, run.steps
            return denoise(x, t, step=step)

        return run(in_step, start.to(self.parts.device), sources, None if part.seam else report, **more)

    def _at_seam(self, part: Pass, on_event: OnEvent) -> Any:
        """Return a denoiser of the single window across the seam."""
        seam = part.seam
        assert seam is not None

        def denoise(x: Tensor, t: Tensor, *, step: int) -> Tensor:
            out = self.call(x, t, seam.window)
            on_event(Event("window", 1, 1, step=step + 1, steps=seam.steps, frames=seam.window))
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
