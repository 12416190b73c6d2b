"""One sampling pass with motion: all changes to the host and their undoing.

Inside a `Pass`, and only there, these are in force: the motion module's noise schedule, the window loop around the
model, the motion module in the UNet, and one option of the host as its denoiser reads it. All of them are context
managers, so they are undone after success, errors, interrupts and out-of-memory alike. The host may change the model
during the pass (refiner); the pass then moves to the new model.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from modules import devices, shared
from modules.sd_samplers_common import InterruptedException

from animatediff.attribute import attribute
from animatediff.clip import plan as clip
from animatediff.clip.call import NOTHING
from animatediff.clip.iterate import Start
from animatediff.clip.plan import Passes, Plan
from animatediff.clip.scope import in_unet
from animatediff.hosts.a1111 import jobs, options, seen_options
from animatediff.hosts.a1111.backend import BACKEND
from animatediff.hosts.shared.backend import OfRows
from animatediff.hosts.shared.cfg_rows import Rows
from animatediff.hosts.shared.unet_call import AroundWindow, of_rows_call
from animatediff.motion import MotionModule, lora
from animatediff.motion.moving import on_device
from animatediff.sampling import Event, OnEvent, WindowedDenoiser
from animatediff.sampling.from_pictures import FromPictures, Held, answer
from animatediff.sampling.memory import WhileSampling
from animatediff.sampling.seam import Seam
from animatediff.unet.reuse import Reuse


@dataclass(frozen=True)
class Motion:
    """The inputs of one pass of a plan."""

    plan: Plan
    module: MotionModule
    second: bool = False  # whether this is the second pass of Hires. fix
    pictures: FromPictures | None = None  # the start of an img2img pass
    around_window: Sequence[AroundWindow] = ()  # contexts for each call of the UNet
    held: Held | None = None  # parts of frames that a pass from noise keeps to the source video

    @property
    def passes(self) -> Passes:
        """The sampler runs of this pass."""
        return self.plan.sampling.of_pass(second=self.second)

    @property
    def loras(self) -> list[lora.Weighted]:
        return self.plan.loras_of(self.plan.inputs.texts[-1 if self.second else 0])


class Pass:
    """The scope of one call of `p.sampler`."""

    def __init__(self, p: Any, motion: Motion, on_event: OnEvent):
        self.p, self.on_event, self.motion, steering = p, on_event, motion, motion.plan.steering
        self.settings, self.module, self.loras = motion.plan.settings, motion.module, motion.loras
        self.around_window, self.pictures = motion.around_window, motion.pictures
        self.held = motion.held if self.pictures is None else self.pictures.held
        self.steer_of = steering and (lambda *site: steering.at(self.steps_done, self.steps, *site))
        self.sampler, self.denoiser = p.sampler, p.sampler.model_wrap_cfg
        self.layout, self.reuse = NOTHING, Reuse(self.settings.speed)
        self.passes = motion.passes
        self.part = self.passes.iterations[0]  # the current run
        self.parts: list[list[float]] | None = None  # weights of each frame's parts of AND, see `backend.Run`
        self.empty: torch.Tensor | None = None  # see `backend.Run`
        self.finished = 0  # number of complete FreeInit iterations
        self.given_up: list[str] = []  # messages about fallbacks when memory ran out
        self.error: Exception | None = None
        self.model: Any = None
        self.step = 0  # sampler step of the current or last call
        self.ended: tuple[int, int] | None = None  # (steps done, steps) before the seam repair
        self.whole_pass, self.on_model = ExitStack(), ExitStack()

    @property
    def steps(self) -> int:
        """Sampler steps of the pass; 0 before it begins."""
        return self.denoiser.steps or 0

    @property
    def steps_done(self) -> int:
        """Completed sampler steps. Second-order samplers such as Heun call the model twice per step."""
        return self.denoiser.step * self.steps // self.denoiser.total_steps if self.denoiser.total_steps else 0

    def __enter__(self) -> Pass:
        with self.whole_pass:
            self.whole_pass.enter_context(attribute(self.denoiser, jobs.PASS, self))  # for `entry`'s callback
            self.apart = not getattr(shared.opts, "batch_cond_uncond", True)
            # One call for cond and uncond; WindowCall splits it again if the user has turned batching off.
            self.whole_pass.enter_context(seen_options.seen(seen_options.DENOISER, batch_cond_uncond=True))
            # Before the module moves to the device, so that its original weights take no memory there.
            self.whole_pass.enter_context(lora.applied(self.module, self.loras, self.settings.frames))
            dtype = BACKEND.unet_dtype(shared.sd_model)
            BACKEND.make_room(sum(weight.numel() for weight in self.module.parameters()) * dtype.itemsize)
            self.whole_pass.enter_context(on_device(self.module, devices.device, dtype))
            self.move_to(shared.sd_model)
            self.whole_pass.enter_context(attribute(self.denoiser, "forward", self._holding(self.denoiser.forward)))
            self.whole_pass = self.whole_pass.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        try:
            self.on_model.close()
        finally:
            self.whole_pass.close()

    def before_call(self, params: Any) -> None:
        """Handle the host's `cfg_denoiser` callback. It comes after a refiner's switch and before the model is called.
        """
        try:
            if shared.sd_model is not self.model or not self._schedule_holds():
                self.move_to(shared.sd_model)
            BACKEND.equal_lengths(shared.sd_model, params, self)
            self.parts = [[part.weight for part in parts] for parts in self.sampler.sampler_extra_args["cond"].batch]
        except Exception as error:  # if raised here, the host would log it and go on without motion
            self.error = error
            if self.model is not shared.sd_model:
                self.on_model.enter_context(BACKEND.called(shared.sd_model, self))

    @property
    def seam(self) -> Seam | None:
        """The seam while it is repaired, else None."""
        return self.part.seam

    @contextmanager
    def in_run(self, part: clip.Pass, start: Start, on_event: OnEvent) -> Iterator[None]:
        """Scope of one sampler run."""
        with attribute(self, "part", part), attribute(self, "held", start.held), attribute(self, "on_event", on_event):
            yield

    @contextmanager
    def at_seam(self, repair: clip.Pass) -> Iterator[None]:
        """Scope of the seam repair: the UNet sees only the frames around the seam, and the host samples as in img2img.
        """
        self.ended = self.steps_done, self.steps
        with seen_options.seen(seen_options.SAMPLERS, img2img_fix_steps=False, img2img_extra_noise=0.0), \
                attribute(self.p, "denoising_strength", repair.sampled.strength):
            yield

    def move_to(self, model: Any) -> None:
        """Apply the pass to this model, after undoing it on the previous one."""
        self.on_model.close()
        self.model = self.empty = None
        with ExitStack() as stack:
            stack.enter_context(BACKEND.scheduled(model, self.module.family.betas, self.p))
            self.alphas = BACKEND.alphas_cumprod(model).clone()
            BACKEND.renew(self.denoiser)
            stack.enter_context(BACKEND.called(model, self))
            unet: Any = BACKEND.unet(model)
            self.memory = stack.enter_context(
                WhileSampling(devices.device, self.given_up.append, lambda: BACKEND.waiting(model),
                              self.settings.windows_per_call or options.windows_per_call(), unet, self.module,
                              self.apart))
            stack.enter_context(in_unet(unet, self.module, self.loras, self.settings.frames, self))
            self.on_model, self.model = stack.pop_all(), model

    def _schedule_holds(self) -> bool:
        """Whether the model still has the pass's noise schedule. Loading other weights into the model overwrites it."""
        return torch.equal(BACKEND.alphas_cumprod(self.model), self.alphas)

    def _holding(self, plain: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        """Wrap the denoiser's `forward`, so that its output for held frames is their pictures.

        It runs after the host has applied an inpaint mask, and before the sampler takes its step.
        """

        def forward(x: torch.Tensor, sigma: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
            # An inpaint mask keeps, and an interrupt returns, the host's own start latents.
            if self.pictures is not None and self.denoiser.step == 0 and not self.seam:
                self.denoiser.init_latent = self.sampler.last_latent = self.p.init_latent
            self.parts = None  # set by the host's callback
            progress = self.steps_done / self.steps
            out = plain(x, sigma, *args, **kwargs)
            if self.held is None:
                return out
            if (preview := shared.state.current_latent) is not None:
                shared.state.current_latent = self.held.into(preview, progress, lambda x0: x0)
            return self.held.into(out, progress, lambda x0: self._answer(x, sigma, x0))

        return forward

    def _answer(self, x: torch.Tensor, sigma: torch.Tensor, x0: torch.Tensor) -> torch.Tensor:
        """Return the denoiser's output for x with known x₀: x₀ itself, or ε for samplers on timesteps such as DDIM."""
        alphas = BACKEND.timestep_alphas(self.denoiser)
        return x0 if alphas is None else answer(x, x0, alphas.to(x.device)[sigma.long()].view(-1, 1, 1, 1))

    def answer(self, rows: Rows, x: torch.Tensor, t: torch.Tensor, of_rows: OfRows) -> torch.Tensor:
        """Return the model's output for the clip [rows c h w], computed window by window."""
        self.step = self.steps_done
        call = of_rows_call(self, rows, of_rows, self.part.run.steps)
        whole = self._one_window(call) if self.seam else self._windows(len(rows.table), call)
        return rows.by_row(whole(rows.by_frame(x), t, step=self.step))

    def _one_window(self, denoise: Any) -> Callable[..., torch.Tensor]:
        """Denoise the frames around the seam only. The output for all other frames is zero and unused."""
        def call(x: torch.Tensor, t: torch.Tensor, *, step: int) -> torch.Tensor:
            assert self.seam is not None
            window, out = self.seam.window, torch.zeros_like(x)
            out[list(window)] = denoise(x[list(window)], t, window).to(out.dtype)
            self._after_window(Event("window", 1, 1, step=step + 1, steps=self.steps, frames=window, latents=x))
            return out

        return call

    def _windows(self, frames: int, denoise: Any) -> WindowedDenoiser:
        context = replace(self.part.context, frames=frames)
        return context.denoiser(denoise, self.steps, self._after_window, lambda: self.memory.at_once)

    def _after_window(self, event: Event) -> None:
        self.on_event(event)
        if shared.state.interrupted or shared.state.skipped:
            raise InterruptedException
