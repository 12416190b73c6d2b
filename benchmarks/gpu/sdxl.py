"""One UNet step of SDXL at full size with an SDXL motion module, random weights, 16 frames with guidance in fp16."""
from __future__ import annotations

import torch
from torch import Tensor

from animatediff.layout import ClipLayout
from animatediff.motion import FAMILIES, build, injected
from benchmarks.gpu.places import peaks
from benchmarks.gpu.plan import DTYPES, Plan, without_kernels
from benchmarks.timing import alternate
from benchmarks.unet_step import TIMESTEP, TOKENS, filled


@torch.no_grad()
def run(plan: Plan) -> list[dict]:
    from diffusers import UNet2DConditionModel

    full, name, frames = plan.device == "cuda", plan.dtypes[0], plan.frames[0]
    dtype = DTYPES[name]
    text = 2048 if full else plan.text
    with torch.device("meta"):
        unet = UNet2DConditionModel(
            block_out_channels=plan.sdxl_widths, cross_attention_dim=text, use_linear_projection=True,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), layers_per_block=2,
            transformer_layers_per_block=(1, 2, 10) if full else 1, addition_embed_type="text_time",
            attention_head_dim=(5, 10, 20) if full else (2, 4, 4),
            addition_time_embed_dim=256 if full else 8, projection_class_embeddings_input_dim=2816 if full else 80)
        module = build(plan.sdxl_widths, FAMILIES["AnimateDiff-SDXL"])
    unet, module = (filled(network, plan.device, dtype) for network in (unet, module))
    module.to(plan.device, dtype)  # positional encodings are buffers, not weights
    rows, side = 2 * frames, plan.sdxl_pixels // 8

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, device=plan.device).to(dtype)

    x, tokens = random(rows, 4, side, side), random(2, TOKENS, text).repeat_interleave(frames, 0)
    added = {"text_embeds": random(rows, 1280 if full else 32), "time_ids": random(rows, 6)}

    def plain() -> Tensor:
        return unet(x, TIMESTEP, tokens, added_cond_kwargs=added).sample

    def ours() -> Tensor:
        with injected(unet, module, lambda count: ClipLayout.contiguous(frames, count // frames)):
            return plain()

    def by_torch() -> Tensor:
        with without_kernels():
            return ours()

    contenders = {"plain": plain, "ours": ours, "torch's operators": by_torch}
    found = alternate(contenders, rounds=max(1, plan.rounds // 3), seconds_of=plan.timer)
    difference = (found["ours"].first.float() - found["torch's operators"].first.float()).abs().max().item()
    times = {f"{name} ms": 1e3 * timing.median for name, timing in found.items()}
    return [{"frames": frames, "pixels": plan.sdxl_pixels, "dtype": name, **times,
             "ours/plain": times["ours ms"] / times["plain ms"], "largest difference": f"{difference:.1e}",
             **peaks(contenders, full)}]
