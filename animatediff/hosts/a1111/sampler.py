"""The host's sampler, called once for each run of `clip.iterate`: FreeInit's iterations and the seam repair.

The second pass of Hires. fix is sampled once, since it takes its coarse structure from the first pass. In a seam repair
the host samples the whole clip, but the UNet sees one window. For the other frames the denoiser returns their finished
latents, so that the sampler noises them as needed.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from modules import prompt_parser, shared
from modules.sd_samplers_common import setup_img2img_steps
from torch import Tensor

from animatediff.clip import plan as clip
from animatediff.clip.iterate import Start
from animatediff.hosts.a1111.backend import BACKEND
from animatediff.hosts.a1111.one_generator import of_frames_alone
from animatediff.hosts.a1111.scope import Pass
from animatediff.sampling import OnEvent


@dataclass(frozen=True)
class Call:
    """The host's call of its sampler, `method(*args, **options)`.

    args: (p, noise, cond, uncond), or (p, picture, noise, cond, uncond) for `sample_img2img`.
    """

    method: Callable[..., Tensor]
    from_picture: bool  # whether the method is `sample_img2img`
    args: tuple[Any, ...]
    options: Mapping[str, Any]

    @property
    def picture(self) -> Tensor | None:
        return self.args[1] if self.from_picture else None

    @property
    def noise(self) -> Tensor:
        return self.args[2 if self.from_picture else 1]

    def at(self, share: float) -> Call:
        """Return the call with its prompts' changes, as in [a:b:0.5], at this share of their steps."""
        place = 3 if self.from_picture else 2
        conds = (sooner(cond, share) for cond in self.args[place:place + 2])
        return replace(self, args=(*self.args[:place], *conds, *self.args[place + 2:]))

    def __call__(self, start: Start) -> Tensor:
        """Call the method with another start."""
        noise = start.noise.clone()  # the host may change it in place
        latents = (start.clean, noise) if self.from_picture else (noise,)
        return self.method(self.args[0], *latents, *self.args[1 + len(latents):], **self.options)


class HostSampler:
    """The `ClipSampler` of a pass.

    call: the host's call, which the clip's runs replace.
    sample_img2img: the host's own method.
    """

    def __init__(self, run: Pass, call: Call, sample_img2img: Callable[..., Tensor]):
        self.run, self.call, self.sample_img2img = run, call, sample_img2img
        self.interrupted = False
        self._first_model = shared.sd_model.sd_checkpoint_info

    def start(self) -> Start:
        """Return the start of the first run: the host's noise, and its picture or the clip's start pictures."""
        run = self.run
        clean = run.pictures.start(run.p.rng.next) if run.pictures else self.call.picture
        return Start(self.call.noise, clean, run.held)

    def noise(self, part: clip.Pass) -> Tensor:
        if part.seam:
            with of_frames_alone(self.run.p.rng, part.seam.window):
                return self.run.p.rng.next()
        scale = self.run.p.initial_noise_multiplier if self.call.from_picture else 1
        return self.run.p.rng.next() * scale

    def start_level(self, part: clip.Pass) -> float:
        """Return σ as `sample_img2img` computes it, in one way for each of the host's two kinds of samplers, or ᾱ."""
        run = self.run
        if not self.call.from_picture:
            return float(run.alphas[-1])
        steps, last = setup_img2img_steps(run.p, self._options(part).get("steps"))
        if hasattr(run.sampler, "get_sigmas"):
            return float(run.sampler.get_sigmas(run.p, steps)[steps - last - 1])
        alpha = run.alphas[run.sampler.get_timesteps(run.p, steps)[last].cpu()]
        return float(((1 - alpha) / alpha) ** 0.5)

    def sample_once(self, part: clip.Pass, start: Start, on_event: OnEvent) -> Tensor:
        run, iterations = self.run, self.run.passes.iterations
        if part is not iterations[0]:
            _lengthen_console_bar(part.run.steps)
        with run.in_run(part, start, on_event):
            latents = self._at_seam(part, start) if part.seam else self._iteration(part, start)
        self.interrupted = shared.state.interrupted or shared.state.skipped
        if not (part.seam or self.interrupted):
            run.finished += 1
            if part is not iterations[-1]:
                self._back_to_first_model()
        return latents

    def _iteration(self, part: clip.Pass, start: Start) -> Tensor:
        """Call the host's method. An iteration with fewer steps has its prompts' changes at the same share of them."""
        share = part.sampled.done / self.run.passes.iterations[-1].sampled.done
        return replace(self.call.at(share), options=self._options(part))(start)

    def _options(self, part: clip.Pass) -> dict[str, Any]:
        """Return the options of the call. Only FreeInit's shorter iterations have another number of steps."""
        shorter = part.sampled.exact and part is not self.run.passes.iterations[-1]
        return {**self.call.options, **({"steps": part.sampled.steps} if shorter else {})}

    def _at_seam(self, part: clip.Pass, start: Start) -> Tensor:
        """Sample the clip as in img2img, with the noise of the window's frames."""
        assert part.seam is not None and start.clean is not None, "the finished clip"
        run = self.run
        call = run.sampler.sampler_extra_args  # the refiner may have changed them
        with run.at_seam(part), of_frames_alone(run.p.rng, part.seam.window):
            return self.sample_img2img(run.p, start.clean, start.noise, call["cond"], call["uncond"],
                                       image_conditioning=call["image_cond"]).to(start.clean)

    def _back_to_first_model(self) -> None:
        """Return to the checkpoint that the pass began with, if the refiner has replaced it."""
        if shared.sd_model.sd_checkpoint_info != self._first_model:
            BACKEND.back_to(self._first_model, self.run.p)
            self.run.move_to(shared.sd_model)


def _lengthen_console_bar(steps: int) -> None:
    bar = getattr(shared.total_tqdm, "_tqdm", None)
    if bar is not None:
        shared.total_tqdm.updateTotal(bar.total + steps)


def sooner(cond: Any, share: float) -> Any:
    """Return the host's conditioning with its changes, as in [a:b:0.5], at this share of their steps."""
    if share == 1 or cond is None:
        return cond

    def entries(schedules: Any) -> list[Any]:
        return [prompt_parser.ScheduledPromptConditioning(round(e.end_at_step * share), e.cond) for e in schedules]

    if not isinstance(cond, prompt_parser.MulticondLearnedConditioning):
        return [entries(schedules) for schedules in cond]
    batch = [[prompt_parser.ComposableScheduledPromptConditioning(entries(part.schedules), part.weight)
              for part in parts] for parts in cond.batch]
    return prompt_parser.MulticondLearnedConditioning(shape=cond.shape, batch=batch)
