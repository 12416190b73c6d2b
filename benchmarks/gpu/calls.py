"""Time and peak memory of a UNet call by number of windows, and of a VAE decode by number of pictures."""
from __future__ import annotations

import torch

from animatediff.layout import ClipLayout
from animatediff.motion import injected
from benchmarks.gpu.places import peaks
from benchmarks.gpu.plan import DTYPES, Plan
from benchmarks.gpu.step import networks
from benchmarks.timing import alternate
from benchmarks.unet_step import TIMESTEP, TOKENS, filled


@torch.no_grad()
def run(plan: Plan) -> list[dict]:
    return _windows(plan) + _decoded(plan)


def _windows(plan: Plan) -> list[dict]:
    dtype, frames, side = plan.dtypes[0], plan.frames[0], plan.pixels // 8
    unet, module = networks(plan, dtype)

    def call(windows: int):
        x = torch.randn(2 * windows * frames, 4, side, side, device=plan.device).to(DTYPES[dtype])
        text = torch.randn(2, TOKENS, plan.text, device=plan.device).to(DTYPES[dtype]).repeat_interleave(len(x) // 2, 0)

        def work() -> torch.Tensor:
            with injected(unet, module, lambda rows: ClipLayout.contiguous(frames, rows // frames)):
                return unet(x, TIMESTEP, text).sample

        return work

    return _rows(plan, "windows in a call", {str(count): call(count) for count in (1, 2, 3, 4)})


def _decoded(plan: Plan) -> list[dict]:
    from diffusers import AutoencoderKL

    with torch.device("meta"):
        vae = AutoencoderKL(block_out_channels=plan.vae, layers_per_block=2, latent_channels=4,
                            down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4)
    dtype, side = plan.dtypes[0], plan.pixels // 8
    vae = filled(vae, plan.device, DTYPES[dtype])
    latents = torch.randn(8, 4, side, side, device=plan.device).to(DTYPES[dtype])
    return _rows(plan, "pictures in a decode", {
        str(count): lambda count=count: vae.decode(latents[:count]).sample for count in (1, 2, 4, 8)})


def _rows(plan: Plan, what: str, calls: dict) -> list[dict]:
    found = alternate(calls, rounds=max(1, plan.rounds // 3), seconds_of=plan.timer)
    peak = peaks(calls, plan.device == "cuda")
    return [{"what": what, "count": int(count), "ms": 1e3 * timing.median, "ms each": 1e3 * timing.median / int(count),
             "peak MiB": peak.get(f"{count} peak MiB", 0.0)} for count, timing in found.items()]
