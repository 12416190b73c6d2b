"""FreeInit in the WebUI: the first pass of a clip is sampled several times.

Each iteration is one call of the host's own method, over all its steps, with new noise. The noise has unit variance,
and every sampler scales it itself. The second pass of Hires. fix is sampled once, since it takes its coarse structure
from the first pass. img2img starts at a lower noise level; there the noise contains the clip's difference from the
picture.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from modules import prompt_parser, shared
from modules.sd_samplers_common import setup_img2img_steps

from animatediff.hosts.a1111.backend import BACKEND
from animatediff.hosts.a1111.scope import Pass
from animatediff.sampling import Event, freeinit


def sample(run: Pass, method: Callable[..., torch.Tensor], args: tuple, kwargs: dict[str, Any]) -> torch.Tensor:
    """Call the host's `method(*args, **kwargs)` once per iteration, inside `run`.

    Return the latents of the last complete iteration. If the first iteration is interrupted, return what the host makes
    of it.
    args: (p, noise, cond, uncond), or (p, picture, noise, cond, uncond) for `sample_img2img`.
    """
    info = shared.sd_model.sd_checkpoint_info
    picture, place = (args[1], 2) if run.from_picture else (None, 1)
    clip: Any = None
    start, first = args[place], args[place].clone()
    iterations = run.motion.iterations
    for number, part in enumerate(iterations, 1):
        run.iteration, run.part = number, part
        share, more = part.sampled.done / iterations[-1].sampled.done, kwargs
        if part.sampled.exact:
            more = {**kwargs, "steps": part.sampled.steps}
        if clip is not None:
            _back_to(info, run)
            start = _renewed(run, picture, clip, first, more.get("steps"))
            _begin(run)
        conds = (_sooner(cond, share) for cond in args[place + 1:place + 3])
        made = method(*args[:place], start, *conds, *args[place + 3:], **more)
        if shared.state.interrupted or shared.state.skipped:
            return made if clip is None else clip
        clip, run.finished = made, run.iteration
    return clip


def _renewed(run: Pass, picture: torch.Tensor | None, clip: torch.Tensor, first: torch.Tensor,
             steps: int | None) -> torch.Tensor:
    """Return the noise of another iteration, in the device and dtype of the host's."""
    fresh = run.p.rng.next()
    if picture is not None:
        fresh = fresh * run.p.initial_noise_multiplier
    level = float(run.alphas[-1]) if picture is None else _level(run, steps)
    return freeinit.renewed(run.settings, clip, first, fresh, level, picture).to(first)


def _level(run: Pass, steps: int | None) -> float:
    """Return the σ at which `sample_img2img` starts, computed as the two kinds of samplers compute it."""
    steps, last = setup_img2img_steps(run.p, steps)
    if hasattr(run.sampler, "get_sigmas"):
        return float(run.sampler.get_sigmas(run.p, steps)[steps - last - 1])
    alpha = run.alphas[run.sampler.get_timesteps(run.p, steps)[last].cpu()]
    return float(((1 - alpha) / alpha) ** 0.5)


def _begin(run: Pass) -> None:
    """Tell the progress displays that steps are counted from 0 again."""
    run.on_event(Event("iteration", run.iteration, run.iterations, iteration=run.iteration, iterations=run.iterations))
    bar = getattr(shared.total_tqdm, "_tqdm", None)  # the console's progress bar
    if bar is not None:
        shared.total_tqdm.updateTotal(bar.total + run.part.run.steps)


def _back_to(info: Any, run: Pass) -> None:
    """Return to the checkpoint that the pass began with, if the refiner has replaced it."""
    if shared.sd_model.sd_checkpoint_info == info:
        return
    BACKEND.back_to(info, run.p)
    run.move_to(shared.sd_model)


def _sooner(cond: Any, share: float) -> Any:
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
