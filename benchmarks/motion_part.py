"""The motion module's transformers at each kind of site in SD1.5's UNet, ours against diffusers', with equal weights.

On the CPU, 16 frames without guidance. A row is one kind of site, with its number in the UNet; the last row of a size
is the sum over all sites. `benchmarks/gpu/places.py` is the same on a GPU.
"""
from __future__ import annotations

import torch

from animatediff.motion.naming import to_diffusers
from animatediff.motion.transformer import TemporalTransformer
from benchmarks.timing import alternate

FRAMES, HEADS, POSITIONS = 16, 8, 32
PLACES = ((320, 8, 5), (640, 16, 5), (1280, 32, 5), (1280, 64, 6))  # channels, pixels per position, number of sites
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def run(quick: bool = False) -> list[dict]:
    sizes, rounds = ((64,), 1) if quick else ((256, 512), 5)
    return [row for name in ("fp32", "bf16") for pixels in sizes for row in places(pixels, name, rounds)]


@torch.no_grad()
def places(pixels: int, dtype: str, rounds: int) -> list[dict]:
    """Return a row for each kind of site, and one for all sites."""
    rows, total = [], {"ours": 0.0, "diffusers": 0.0}
    for channels, per, count in PLACES:
        ours, theirs = (each.to(DTYPES[dtype]) for each in pair(channels))
        side = pixels // per
        x = torch.randn(FRAMES, channels, side, side, generator=torch.Generator().manual_seed(side)).to(DTYPES[dtype])

        def matched() -> torch.Tensor:
            ours.over_frames = True  # as diffusers; the original v2 normalises each frame
            out = ours(x, FRAMES)
            ours.over_frames = False
            return out

        found = alternate({"ours": lambda: ours(x, FRAMES), "diffusers": lambda: theirs(x, num_frames=FRAMES)},
                          rounds=rounds, warm_up={"ours": matched},
                          say=f"{FRAMES} frames, {pixels} pixels {dtype}, {channels} channels")
        difference = (found["ours"].first - found["diffusers"].first).abs().max().item()
        times = {name: timing.median for name, timing in found.items()}
        for name, seconds in times.items():
            total[name] += count * seconds
        rows.append(_row(str(channels), f"{side}×{side}", count, times, f"{difference:.1e}"))
    rows.append(_row("all places", "", sum(count for *_, count in PLACES), total, ""))
    return [{"frames": FRAMES, "pixels": pixels, "dtype": dtype} | row for row in rows]


def _row(channels: str, places: str, count: int, times: dict[str, float], difference: str) -> dict:
    return {"channels": channels, "positions": places, "in the UNet": count,
            "ours s": times["ours"], "diffusers s": times["diffusers"],
            "diffusers/ours": times["diffusers"] / times["ours"], "largest difference": difference}


def pair(channels: int) -> tuple[TemporalTransformer, torch.nn.Module]:
    """Return our transformer and diffusers', with the same random weights."""
    from diffusers.models.unets.unet_motion_model import AnimateDiffTransformer3D

    torch.manual_seed(channels)
    ours = TemporalTransformer(channels, HEADS, POSITIONS, True, False)
    theirs = AnimateDiffTransformer3D(
        num_attention_heads=HEADS, attention_head_dim=channels // HEADS, in_channels=channels, norm_num_groups=32,
        cross_attention_dim=None, activation_fn="geglu", attention_bias=False, double_self_attention=True,
        positional_embeddings="sinusoidal", num_positional_embeddings=POSITIONS)  # fmt: skip
    place = "down_blocks.0.motion_modules.0."
    named = to_diffusers({f"{place}temporal_transformer.{name}": value for name, value in ours.state_dict().items()})
    theirs.load_state_dict({name.removeprefix(place): value for name, value in named.items()}, strict=False)
    return ours.eval(), theirs.eval()
