"""Write the trained networks as the files that ship: an SD1.5 checkpoint, its YAML sidecar and the motion module."""
from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import torch
import yaml
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextModel

from animatediff.engine import keys
from animatediff.motion import MotionModule

from .clips import SIZE
from .vae import SCALING

MEAN = 0.5  # mean of the text encoder's output; CLIP-L's is not zero either


def image_model(folder: Path, unet: UNet2DConditionModel, vae: AutoencoderKL, encoder: CLIPTextModel) -> None:
    """Write `demo.safetensors`, `demo.yaml` and the text encoder's `clip/config.json`."""
    unet, encoder = lifted(unet, encoder)
    images = keys.unet_to_ldm(unet.state_dict()) | keys.vae_to_ldm(vae.state_dict())
    _save(images | keys.text_to_ldm(encoder.state_dict()), folder / "demo.safetensors")
    encoder.config.save_pretrained(folder / "clip")
    (folder / "demo.yaml").write_text(yaml.safe_dump({"model": latent_diffusion(unet, vae, encoder)}, sort_keys=False))


@torch.no_grad()
def lifted(unet: UNet2DConditionModel, encoder: CLIPTextModel) -> tuple[UNet2DConditionModel, CLIPTextModel]:
    """Return copies that compute the same pictures, but with text embeddings whose mean is shifted by `MEAN`.

    WebUIs rescale weighted prompts such as "(red:1.2)" to keep the mean of the embeddings, which fails if the mean is
    about zero. A constant added to all keys does not change the softmax. A constant added to all values is subtracted
    again by the bias of the output layer.
    """
    unet, encoder = deepcopy(unet), deepcopy(encoder)
    encoder.final_layer_norm.bias += MEAN
    for attention in (m.attn2 for m in unet.modules() if hasattr(m, "attn2")):
        out = attention.to_out[0]
        out.bias -= out.weight @ (attention.to_v.weight.sum(1) * MEAN)
    return unet, encoder


def motion_module(folder: Path, module: MotionModule) -> None:
    """Write `motion.safetensors` in the original AnimateDiff naming."""
    _save(module.state_dict(), folder / "motion.safetensors")


def _save(state: dict[str, torch.Tensor], path: Path) -> None:
    save_file({k: v.detach().half().contiguous() for k, v in state.items()}, path, metadata={"format": "pt"})


def latent_diffusion(unet: UNet2DConditionModel, vae: AutoencoderKL, encoder: CLIPTextModel) -> dict:
    """Return the LatentDiffusion configuration of the checkpoint, which WebUIs read."""
    widths, vae_widths = unet.config.block_out_channels, vae.config.block_out_channels
    return {
        "target": "ldm.models.diffusion.ddpm.LatentDiffusion",
        "params": {
            "linear_start": 0.00085,
            "linear_end": 0.012,
            "num_timesteps_cond": 1,
            "log_every_t": 200,
            "timesteps": 1000,
            "first_stage_key": "jpg",
            "cond_stage_key": "txt",
            "image_size": SIZE // 8,
            "channels": 4,
            "cond_stage_trainable": False,
            "conditioning_key": "crossattn",
            "monitor": "val/loss_simple_ema",
            "scale_factor": SCALING,
            "use_ema": False,
            "unet_config": {
                "target": "ldm.modules.diffusionmodules.openaimodel.UNetModel",
                "params": {
                    "image_size": SIZE // 8,
                    "in_channels": 4,
                    "out_channels": 4,
                    "model_channels": widths[0],
                    "attention_resolutions": [4, 2, 1],
                    "num_res_blocks": unet.config.layers_per_block,
                    "channel_mult": [w // widths[0] for w in widths],
                    "num_heads": unet.config.attention_head_dim,
                    "use_spatial_transformer": True,
                    "transformer_depth": 1,
                    "context_dim": unet.config.cross_attention_dim,
                    "use_checkpoint": False,
                    "legacy": False,
                },
            },
            "first_stage_config": {
                "target": "ldm.models.autoencoder.AutoencoderKL",
                "params": {
                    "embed_dim": 4,
                    "monitor": "val/rec_loss",
                    "ddconfig": {
                        "double_z": True,
                        "z_channels": 4,
                        "resolution": SIZE,
                        "in_channels": 3,
                        "out_ch": 3,
                        "ch": vae_widths[0],
                        "ch_mult": [w // vae_widths[0] for w in vae_widths],
                        "num_res_blocks": vae.config.layers_per_block,
                        "attn_resolutions": [],
                        "dropout": 0.0,
                    },
                    "lossconfig": {"target": "torch.nn.Identity"},
                },
            },
            "cond_stage_config": {
                "target": "ldm.modules.encoders.modules.FrozenCLIPEmbedder",
                "params": {"version": "clip"},
            },
        },
    }
