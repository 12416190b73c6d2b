"""Seam repair in the host: behind the pass's own sampling one more, by the host's img2img,
of the frames around the seam.

It runs inside the pass's scope and on its sampler. The host samples the whole clip; the UNet sees one window, and what
the denoiser answers for the frames that are held is their finished self,
so that they are noised as the sampler wants them.
"""
from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from modules import shared
from torch import Tensor

from animatediff.clip.plan import seam_of
from animatediff.hosts.a1111.scope import Pass
from animatediff.sampling.seam import Seam
from animatediff.settings import Settings


def of_pass(p: Any, settings: Settings) -> Seam | None:
    """What the pass that is about to begin, or runs, makes anew around the seam: Hires. fix's, where there is one."""
    if getattr(p, "enable_hr", False) and not p.is_hr_pass:
        return None
    return seam_of(settings, p.batch_size, p.steps)


def repaired(run: Pass, sample_img2img: Callable[..., Tensor], finished: Tensor) -> Tensor:
    """The pass's latents [f c h w] with the frames around the seam made anew. One that is interrupted leaves them as
    they are."""
    p, seam = run.p, of_pass(run.p, run.settings)
    if seam is None or _stopped():
        return finished
    joins = torch.full((len(finished),), seam.steps)
    joins[list(seam.window)] = torch.tensor(seam.joins)
    joined = torch.zeros(len(finished), dtype=torch.bool)

    def hold(denoiser: Any, args: tuple[Tensor, Tensor], answer: Tensor) -> Tensor:
        x, level = args
        held = joins > run.step
        joined.logical_or_(~held)
        still = run.answer_of(x, level, finished)
        if shared.state.current_latent is not None:  # the live preview's
            shared.state.current_latent[held] = finished[held].to(shared.state.current_latent)
        return torch.where(held.to(answer.device).view(-1, 1, 1, 1), still.to(answer), answer)

    call = run.sampler.sampler_extra_args  # the refiner has changed them
    with ExitStack() as stack:
        stack.enter_context(run.at_seam(seam))
        stack.callback(run.denoiser.register_forward_hook(hold).remove)
        made = sample_img2img(p, finished, p.rng.next().to(finished), call["cond"], call["uncond"],
                              image_conditioning=call["image_cond"])
    if _stopped():
        return finished
    return torch.where(joined.to(finished.device).view(-1, 1, 1, 1), made.to(finished), finished)


def _stopped() -> bool:
    return shared.state.interrupted or shared.state.skipped
