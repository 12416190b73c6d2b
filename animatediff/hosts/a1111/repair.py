"""Seam repair in the host: after the pass, the host's img2img samples the frames around the seam again.

It runs inside the pass's scope and on its sampler. The host samples the whole clip, but the UNet sees one window. For
the other frames the denoiser returns their finished latents, so that the sampler noises them as needed.
"""
from __future__ import annotations

from collections.abc import Callable

from modules import shared
from torch import Tensor

from animatediff.hosts.a1111.one_generator import of_frames_alone
from animatediff.hosts.a1111.scope import Pass


def repaired(run: Pass, sample_img2img: Callable[..., Tensor], finished: Tensor) -> Tensor:
    """Return the pass's latents [f c h w] with the frames around the seam sampled again, or unchanged if interrupted.
    """
    p, repair = run.p, run.motion.repair
    if repair is None or repair.seam is None or _stopped():
        return finished
    seam = repair.seam
    held = seam.held(finished, run.held)
    call = run.sampler.sampler_extra_args  # the refiner may have changed them
    with run.at_seam(repair, held), of_frames_alone(p.rng, seam.window):
        made = sample_img2img(p, finished, p.rng.next().to(finished), call["cond"], call["uncond"],
                              image_conditioning=call["image_cond"])
    return finished if _stopped() else held.pinned(made.to(finished))


def _stopped() -> bool:
    return shared.state.interrupted or shared.state.skipped
