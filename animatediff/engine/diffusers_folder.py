"""Image models in folders, as `save_pretrained` of diffusers' StableDiffusionPipeline writes them, offline."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from transformers import CLIPTextModel

from animatediff.engine import tokenizer
from animatediff.engine.components import SD15_BETAS, Components
from animatediff.engine.text import TextEncoder
from animatediff.errors import ModelError
from animatediff.motion import BetaSchedule


def load(path: Path, device: torch.device, dtype: torch.dtype) -> Components:
    """A folder as `save_pretrained` of diffusers' StableDiffusionPipeline writes it."""
    index = path / "model_index.json"
    if not index.is_file():
        raise ModelError(
            "the folder has no model_index.json", where=str(path), remedy="Give a checkpoint file or a diffusers folder"
        )
    kind = json.loads(index.read_text(encoding="utf-8")).get("_class_name", "")
    if kind not in ("StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline", "AnimateDiffPipeline"):
        raise ModelError(
            f"is a model for {kind}, which is not supported yet by the standalone engine",
            where=str(path),
            remedy="Use an SD1.5 model (StableDiffusionPipeline)",
        )
    parts = {"unet": UNet2DConditionModel, "vae": AutoencoderKL, "text_encoder": CLIPTextModel}
    loaded = {folder: _network(path / folder, network, dtype).to(device).eval().requires_grad_(False)
              for folder, network in parts.items()}
    if (channels := loaded["unet"].config.in_channels) != 4:
        raise ModelError(
            f"the UNet has {channels} input channels (inpainting or editing), which is not supported yet",
            where=str(path),
            remedy="Use an SD1.5 model for text to image",
        )
    schedule = path / "scheduler" / "scheduler_config.json"
    options = json.loads(schedule.read_text(encoding="utf-8")) if schedule.is_file() else {}
    betas = BetaSchedule(
        options.get("beta_schedule", SD15_BETAS.kind),
        options.get("beta_start", SD15_BETAS.start),
        options.get("beta_end", SD15_BETAS.end),
        options.get("num_train_timesteps", SD15_BETAS.steps),
    )
    text = TextEncoder(loaded["text_encoder"], tokenizer.from_folder(path / "tokenizer"))
    prediction = options.get("prediction_type", "epsilon")
    return Components(loaded["unet"], loaded["vae"], text, path.name, betas, prediction, path)


def _network(folder: Path, network: Any, dtype: torch.dtype) -> Any:
    """One of the folder's networks; its files in half precision where there are no others."""
    files = {f.name for f in folder.glob("*") if f.suffix in (".safetensors", ".bin")}
    half = {name for name in files if ".fp16" in name}
    try:
        return network.from_pretrained(folder, torch_dtype=dtype, local_files_only=True,
                                       variant="fp16" if half and half == files else None)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        reason = next(iter(str(error).splitlines()), "")
        raise ModelError(f"the {folder.name} cannot be loaded ({reason})", where=str(folder),
                         remedy="Restore the folder's files") from error
