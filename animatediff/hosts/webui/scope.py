"""One sampling pass with motion: everything that is done to the host, and its undoing.

`animated(p, …)` replaces, on this pass's own sampler object, the two methods with which the host samples. Inside
them, and nowhere else, a `Pass` is in force: the motion module's noise schedule, the window loop around the model,
the motion module in the UNet, one host option. All of it hangs on context managers, so success, errors, interrupts and
out-of-memory leave the same way. The host may change the model in mid-pass (refiner); the pass then moves along.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from modules import devices, sd_models, shared
from modules.sd_samplers_common import InterruptedException

from animatediff.errors import AnimateDiffError, ModelError
from animatediff.layout import ClipLayout
from animatediff.motion import MotionModule, Steering, injected
from animatediff.sampling import Event, OnEvent, WindowedDenoiser, betas
from animatediff.settings import Settings

from . import stop
from .rows import Rows, equal_lengths, take

NOTHING = ClipLayout((), ())
_absent = object()
# Makes a context from the frames of a window and the number of roles; the call has rows [(role frame)].
AroundWindow = Callable[[tuple[int, ...], int], AbstractContextManager[None]]
current: Pass | None = None  # jobs run one at a time: the host queues them


def animated(p: Any, settings: Settings, module: MotionModule, *, on_event: OnEvent, on_end: Callable[[int, int], None],
             around: Callable[[], AbstractContextManager[None]] = nullcontext,
             around_window: Sequence[AroundWindow] = (), steering: Steering | None = None) -> None:
    """Make the sampling call that `p.sampler`, a throwaway, is for a call with motion.

    on_event: told of every window. on_end(done, steps): told how many sampler steps were done, however it ended.
    around: makes a context that is entered together with the pass. around_window: contexts for each call of the UNet.
    steering: how strongly the module acts, if not as it was trained.
    """
    sampler = p.sampler
    for name in ("sample", "sample_img2img"):

        def sample(*args: Any, method: Callable[..., Any] = getattr(sampler, name), **kwargs: Any) -> Any:
            run = Pass(p, settings, module, on_event, around_window, steering)
            try:
                with around(), run:
                    return method(*args, **kwargs)
            except AnimateDiffError as error:
                raise stop.AnimateDiffStopped(error) from error
            finally:
                on_end(run.steps_done, run.steps)

        setattr(sampler, name, sample)


class Pass:
    """The scope of one call of `p.sampler`."""

    def __init__(self, p: Any, settings: Settings, module: MotionModule, on_event: OnEvent,
                 around_window: Sequence[AroundWindow] = (), steering: Steering | None = None):
        self.p, self.settings, self.module, self.on_event = p, settings, module, on_event
        self.around_window = around_window
        self.steer_of = steering and (lambda *site: steering.at(self.steps_done, self.steps, *site))
        self.sampler, self.denoiser = p.sampler, p.sampler.model_wrap_cfg
        self.layout = NOTHING
        self.parts: list[int] | None = None  # rows of each frame in the call that comes next
        self.error: Exception | None = None
        self.model: Any = None
        self.whole_pass, self.on_model = ExitStack(), ExitStack()

    @property
    def steps(self) -> int:
        """Sampler steps of the pass; 0 before it begins."""
        return self.denoiser.steps or 0

    @property
    def steps_done(self) -> int:
        """Sampler steps that are complete; Heun and its kin call the model twice in one."""
        return self.denoiser.step * self.steps // self.denoiser.total_steps if self.denoiser.total_steps else 0

    def __enter__(self) -> Pass:
        global current
        if current is not None:
            raise ModelError("another clip is being sampled", remedy="Wait until it is finished.")
        with self.whole_pass:
            self.together = shared.opts.batch_cond_uncond
            # One call for all roles; the window loop splits it again where the user wants it split.
            self.whole_pass.enter_context(_option("batch_cond_uncond", True))
            self.whole_pass.callback(self.module.to, "cpu")
            self.module.to(devices.device, devices.dtype_unet)
            self._move_to(shared.sd_model)
            self.whole_pass = self.whole_pass.pop_all()
        current = self
        return self

    def __exit__(self, *error: Any) -> None:
        global current
        current = None
        try:
            self.on_model.close()
        finally:
            self.whole_pass.close()

    def before_call(self, params: Any) -> None:
        """The host's `cfg_denoiser` callback, after a refiner's switch and before the model is called."""
        try:
            if shared.sd_model is not self.model or not self._schedule_holds():
                self._move_to(shared.sd_model)
            self.parts = [len(parts) for parts in self.sampler.sampler_extra_args["cond"].batch]
            if not shared.opts.pad_cond_uncond_v0:
                params.text_cond, params.text_uncond = equal_lengths(
                    params.text_cond, params.text_uncond, shared.sd_model.cond_stage_model_empty_prompt)
        except Exception as error:  # the host would log it and go on without motion
            self.error = error
            if self.model is not shared.sd_model:
                shared.sd_model.apply_model = self._apply_model(shared.sd_model.apply_model)
                self.on_model.callback(delattr, shared.sd_model, "apply_model")

    def _move_to(self, model: Any) -> None:
        """Set everything up on this model, after undoing it on the one before."""
        self.on_model.close()
        self.model = None
        with ExitStack() as stack:
            self.alphas = stack.enter_context(_schedule(model, self.module, self.p))
            self._renew_denoiser(model)
            stack.enter_context(_attribute(model, "apply_model", self._apply_model(model.apply_model)))
            stack.enter_context(injected(model.model.diffusion_model, self.module, lambda rows: self.layout,
                                         self.steer_of))
            self.on_model, self.model = stack.pop_all(), model

    def _schedule_holds(self) -> bool:
        """Loading other weights into the same model overwrites its schedule."""
        return torch.equal(self.model.alphas_cumprod.cpu(), self.alphas)

    def _renew_denoiser(self, model: Any) -> None:
        """The sampler took σ from the model when it was made, and the motion module has others."""
        self.denoiser.model_wrap = None
        self.sampler.model_wrap = self.denoiser.inner_model
        if hasattr(self.denoiser, "alphas"):
            self.denoiser.alphas = model.alphas_cumprod

    def _apply_model(self, plain: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        """The model's `apply_model(x [rows c h w], t [rows], cond)`, window by window."""

        def apply_model(x: torch.Tensor, t: torch.Tensor, cond: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
            if self.error is not None:
                raise self.error
            if self.parts is None:  # not from the denoiser: somebody's single picture
                return plain(x, t, cond, *args, **kwargs)
            parts, self.parts = self.parts, None
            try:
                rows = Rows.of_call(parts, x.shape[0])
            except ValueError as error:
                raise ModelError(f"the UNet is called with a batch that is not the clip's: {error}",
                                 remedy="Another extension changes the batch; disable it for this clip.") from error

            def denoise(frames_x: torch.Tensor, t: torch.Tensor, frames: tuple[int, ...]) -> torch.Tensor:
                index = rows.table[list(frames)]  # [frame role]
                latents = frames_x.unflatten(1, (rows.roles, -1))
                out = torch.empty_like(latents)
                for roles in [range(rows.roles)] if self.together else [[r] for r in range(rows.roles)]:
                    chosen = index[:, list(roles)].T.flatten()
                    self.layout = ClipLayout.contiguous(frames, groups=len(roles))
                    batch = latents[:, list(roles)].transpose(0, 1).flatten(0, 1)
                    try:
                        with ExitStack() as stack:
                            for enter in self.around_window:
                                stack.enter_context(enter(frames, len(roles)))
                            their_cond = take(cond, chosen, x.shape[0])
                            answer = plain(batch, t[chosen.to(t.device)], their_cond, *args, **kwargs)
                    finally:
                        self.layout = NOTHING
                    out[:, list(roles)] = answer.unflatten(0, (len(roles), -1)).transpose(0, 1).to(out.dtype)
                return out.flatten(1, 2)

            return rows.by_row(self._windows(len(parts), denoise)(rows.by_frame(x), t, step=self.steps_done))

        return apply_model

    def _windows(self, frames: int, denoise: Any) -> WindowedDenoiser:
        s = self.settings
        return WindowedDenoiser(
            denoise, frames, s.context_length, stride=s.stride, overlap=s.overlap, closed_loop=s.closed_loop,
            schedule=s.context_schedule, method=s.fuse_method, steps=self.steps,
            on_event=self._after_window)

    def _after_window(self, event: Event) -> None:
        self.on_event(event)
        if shared.state.interrupted or shared.state.skipped:
            raise InterruptedException


@contextmanager
def _schedule(model: Any, module: MotionModule, p: Any) -> Iterator[torch.Tensor]:
    """The module's ᾱ in place of the model's, with the host's own options for schedules applied to it."""
    before = model.alphas_cumprod, model.alphas_cumprod_original
    try:
        ours = betas.alphas_cumprod(module.family.betas)
        model.alphas_cumprod_original = ours.to(before[1])
        sd_models.apply_alpha_schedule_override(model, p)
        yield model.alphas_cumprod.detach().cpu().clone()
    finally:
        model.alphas_cumprod, model.alphas_cumprod_original = before


@contextmanager
def _attribute(thing: Any, name: str, value: Any) -> Iterator[None]:
    """An attribute of this object alone, for the length of the block."""
    before = vars(thing).get(name, _absent)
    setattr(thing, name, value)
    try:
        yield
    finally:
        if before is _absent:
            delattr(thing, name)
        else:
            setattr(thing, name, before)


@contextmanager
def _option(key: str, value: Any) -> Iterator[None]:
    """One of the host's options, for the length of the block."""
    data = shared.opts.data
    before = data.get(key, _absent)
    data[key] = value
    try:
        yield
    finally:
        if before is _absent:
            data.pop(key, None)
        else:
            data[key] = before
