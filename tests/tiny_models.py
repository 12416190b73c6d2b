"""A tiny random image model and motion modules on disk, in the layouts that users have."""
from __future__ import annotations

import io
import json
from functools import cache
from pathlib import Path

import torch
import yaml
from safetensors.torch import save, save_file

WIDTHS = (32, 32, 32, 32)


def write_checkpoint(folder: Path, name: str = "tiny") -> Path:
    """An SD1.5 model in small: LDM single file, sidecar .yaml and the tokenizer's folder, random weights."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    from animatediff.engine import keys
    from animatediff.engine.tokenizer import END, START, WORD_END, byte_symbols

    symbols = byte_symbols()
    tokens = [*symbols, *(s + WORD_END for s in symbols), START, END]
    torch.manual_seed(0)
    unet = UNet2DConditionModel(sample_size=8, block_out_channels=WIDTHS, layers_per_block=2, cross_attention_dim=16,
                                attention_head_dim=4)
    vae = AutoencoderKL(block_out_channels=WIDTHS, layers_per_block=1, latent_channels=4,
                        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4)
    text = CLIPTextModel(CLIPTextConfig(vocab_size=len(tokens), hidden_size=16, intermediate_size=32,
                                        num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=77,
                                        bos_token_id=len(tokens) - 2, eos_token_id=len(tokens) - 1))
    for parameter in unet.parameters():  # random weights that say something: ε of about unit size
        if parameter.ndim > 1:
            parameter.data *= 1.5
    clip = folder / "clip"
    clip.mkdir(parents=True, exist_ok=True)
    text.config.save_pretrained(clip)
    (clip / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (clip / "merges.txt").write_text("#version: 0.2\n")
    state = (keys.unet_to_ldm(unet.state_dict()) | keys.vae_to_ldm(vae.state_dict())
             | keys.text_to_ldm(text.state_dict()))
    save_file({key: value.contiguous() for key, value in state.items()}, folder / f"{name}.safetensors")
    params = {"linear_start": 0.00085, "linear_end": 0.012, "scale_factor": 0.5,
              "unet_config": {"params": {"num_heads": 4, "image_size": 8}},
              "cond_stage_config": {"params": {"version": "clip"}}}
    (folder / f"{name}.yaml").write_text(yaml.safe_dump({"model": {"params": params}}))
    return folder / f"{name}.safetensors"


def write_module(path: Path, family: str = "v2", *, widths=WIDTHS, frames: int | None = None, seed: int = 1) -> Path:
    """A motion module that does something: random weights, proj_out included."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_module_file(path.suffix, family, tuple(widths), frames, seed))
    torch.manual_seed(seed)  # the state of torch's generator does not depend on the cache
    return path


@cache
def _module_file(suffix: str, family: str, widths: tuple[int, ...], frames: int | None, seed: int) -> bytes:
    from animatediff import motion

    torch.manual_seed(seed)
    module = motion.build(widths, family, frames=frames)
    for site in module.sites().values():
        torch.nn.init.normal_(site.temporal_transformer.proj_out.weight, std=0.1)
    state = {key: value.clone().contiguous() for key, value in module.state_dict().items()}
    if suffix == ".safetensors":
        return save(state)
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()
