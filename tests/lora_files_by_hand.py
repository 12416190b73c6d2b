"""LoRA files as the tools out there write them, put together by hand from their namings."""

from __future__ import annotations

import torch

SITES = [*(f"down_blocks.{i}.motion_modules.{j}" for i in range(4) for j in range(2)), "mid_block.motion_modules.0",
         *(f"up_blocks.{i}.motion_modules.{j}" for i in range(4) for j in range(3))]
LAYERS = ("to_q", "to_k", "to_v", "to_out")


def channels(site: str, widths: tuple[int, ...]) -> int:
    side, level = site.split(".")[:2]
    return widths[-1] if side == "mid_block" else widths[int(level)] if side == "down_blocks" else \
        widths[-1 - int(level)]


def pairs(widths: tuple[int, ...], rank: int = 4, seed: int = 5, mid: bool = True, size: float = 1.0) -> dict:
    """{(site, attention, layer): (down, up)} with numbers of about the size that trained ones have."""
    random = torch.Generator().manual_seed(seed)
    found = {}
    for site in SITES:
        for attention in (0, 1):
            for layer in LAYERS:
                c = channels(site, widths)
                down, up = torch.randn(rank, c, generator=random), torch.randn(c, rank, generator=random)
                if mid or not site.startswith("mid"):
                    found[site, attention, layer] = down * c**-0.5, up * size * rank**-0.5
    return found


def original(found: dict, front: str = "") -> dict:
    """guoyww's v2_lora_*.ckpt."""
    result = {}
    for (site, attention, layer), both in found.items():
        at = (f"{front}{site}.temporal_transformer.transformer_blocks.0.attention_blocks.{attention}"
              f".processor.{layer}_lora")
        result |= {f"{at}.{part}.weight": tensor for part, tensor in zip(("down", "up"), both)}
    return result


def diffusers(found: dict) -> dict:
    """What diffusers' conversion script writes."""
    result = {}
    for (site, attention, layer), both in found.items():
        at = f"unet.{site}.transformer_blocks.0.attn{attention + 1}.processor.{layer}_lora"
        result |= {f"{at}.{part}.weight": tensor for part, tensor in zip(("down", "up"), both)}
    return result


def peft(found: dict, adapter: str = "") -> dict:
    """What diffusers saves today; peft itself writes the adapter's name too."""
    result = {}
    for (site, attention, layer), both in found.items():
        at = f"unet.{site}.transformer_blocks.0.attn{attention + 1}.{layer.replace('out', 'out.0')}"
        result |= {f"{at}.lora_{part}{adapter}.weight": tensor for part, tensor in zip("AB", both)}
    return result


def webui(found: dict, front: str = "", alpha: float | None = None) -> dict:
    """Underscores, as the WebUI's Lora extension calls layers."""
    result = {}
    for (site, attention, layer), both in found.items():
        path = (f"{site}.temporal_transformer.transformer_blocks.0.attention_blocks.{attention}"
                f".{layer.replace('out', 'out.0')}")
        at = front + path.replace(".", "_")
        result |= {f"{at}.lora_{part}.weight": tensor for part, tensor in zip(("down", "up"), both)}
        if alpha is not None:
            result[f"{at}.alpha"] = torch.tensor(alpha)
    return result


def adapter(unet, rank: int = 4, seed: int = 6) -> dict:
    """v3_sd15_adapter.ckpt: every projection of the spatial attention of a diffusers UNet."""
    random = torch.Generator().manual_seed(seed)
    result = {}
    for name, layer in unet.named_modules():
        head, _, last = name.replace("to_out.0", "to_out").rpartition(".")
        if head.endswith(("attn1", "attn2")) and last in LAYERS and hasattr(layer, "weight"):
            out, into = layer.weight.shape
            at = f"{head}.processor.{last}_lora"
            result[f"{at}.down.weight"] = torch.randn(rank, into, generator=random) * into**-0.5
            result[f"{at}.up.weight"] = torch.randn(out, rank, generator=random) * rank**-0.5
    return result
