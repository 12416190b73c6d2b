"""Extension for tests only: writes xl.safetensors, a checkpoint with SDXL's layout, small widths and random weights.

Forge and Neo identify SDXL by its widths, so a class with these widths is added; see animatediff_test_narrow.py. Its
noise schedule is that of AnimateDiff-SDXL, so that a module of this family changes no noise level.
"""
import json
from pathlib import Path

import torch
from backend import loader
from backend.nn.clip import IntegratedCLIP
from backend.nn.unet import IntegratedUNet2DConditionModel
from huggingface_guess import model_list
from modules import paths
from narrow_configs import CHECKPOINTS, change, latent_diffusion, write_configs
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel
from transformers.modeling_utils import no_init_weights

SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.020}
POOLED = 32  # width of the second text encoder
UNET = {"model_channels": 32, "transformer_depth": [0, 0, 1, 1, 2, 2], "adm_in_channels": POOLED + 6 * 256,
        "use_linear_in_transformer": True}
HEADS = {"num_heads": -1, "num_head_channels": 32}
WHOLE = {"in_channels": 4, "out_channels": 4, "num_res_blocks": [2, 2, 2], "channel_mult": [1, 2, 4],
         "num_classes": "sequential", "use_spatial_transformer": True, "transformer_depth_middle": 2,
         "transformer_depth_output": [0, 0, 0, 1, 1, 1, 2, 2, 2], **HEADS}
PREFIXES = {"text_encoder": "conditioner.embedders.0.", "text_encoder_2": "conditioner.embedders.1.model."}


def write_xl_configs(folder, params):
    write_configs("stabilityai/stable-diffusion-xl-base-1.0", folder, params)
    change(folder / "scheduler" / "scheduler_config.json", **SCHEDULE)
    first = json.loads((folder / "text_encoder" / "config.json").read_text())
    sizes = {"hidden_size": POOLED, "intermediate_size": 2 * POOLED, "projection_dim": POOLED, "hidden_act": "gelu"}
    (folder / "text_encoder_2" / "config.json").write_text(json.dumps({**first, **sizes}))
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        change(folder / "tokenizer_2" / name, pad_token="!")


def random_weights(network, prefix, random):
    made = {}
    for name, value in network.state_dict().items():
        size = value[0].numel() if value.ndim > 1 else 0
        made[prefix + name] = torch.randn(value.shape, generator=random) / size**0.5 if size else \
            torch.full(value.shape, float(name.endswith(("weight", "logit_scale"))))
    return made


def write(file, folder, width, demo):
    random = torch.Generator().manual_seed(0)
    with torch.device("meta"), no_init_weights():  # to initialise them would leave attributes on torch's classes
        networks = {"model.diffusion_model.": IntegratedUNet2DConditionModel(**WHOLE, **UNET, context_dim=width)}
        for name, prefix in PREFIXES.items():
            config = CLIPTextConfig.from_pretrained(folder / name)
            networks[prefix] = IntegratedCLIP(CLIPTextModel, config, add_text_projection=True)
    state = {key: value for key, value in load_file(demo).items() if key.startswith("first_stage_model.")}
    for prefix, network in networks.items():
        state |= random_weights(network, prefix, random)
    save_file(state, file)


for config in CHECKPOINTS.glob("demo.yaml"):
    found, place = latent_diffusion(config), Path(paths.data_path) / "narrow-sdxl"
    write_xl_configs(place, found)
    width = found["unet_config"]["params"]["context_dim"] + POOLED
    kind = type("NarrowXL", (model_list.SDXL,), {
        "huggingface_repo": str(place), "unet_extra_config": HEADS,
        "unet_config": {**model_list.SDXL.unet_config, **UNET, "context_dim": width}})
    model_list.models.insert(0, kind)
    loader.StableDiffusionXL.matched_guesses.append(kind)
    if not (CHECKPOINTS / "xl.safetensors").exists():
        write(CHECKPOINTS / "xl.safetensors", place, width, config.with_suffix(".safetensors"))
