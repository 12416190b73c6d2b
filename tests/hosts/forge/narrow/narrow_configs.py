"""The configurations from which Forge and Neo read a checkpoint's sizes, with small ones in them.

They are folders in diffusers' layout. The host has one for each kind of checkpoint.
"""
import json
import shutil
from pathlib import Path

import yaml
from backend import loader
from modules import paths

HOSTS = Path(loader.__file__).parent / "huggingface"
CHECKPOINTS = Path(paths.models_path) / "Stable-diffusion"


def write_configs(name, folder, params):
    """Copy the host's folder `name`, with the text encoder, tokenizer and VAE sizes of a LatentDiffusion model.

    params: of its configuration.
    """
    vae, clip = params["first_stage_config"]["params"], Path(params["cond_stage_config"]["params"]["version"])
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(HOSTS / name, folder)
    shutil.copy(clip / "config.json", folder / "text_encoder")
    for tokenizer in folder.glob("tokenizer*"):
        shutil.rmtree(tokenizer)
        shutil.copytree(clip, tokenizer, ignore=shutil.ignore_patterns("config.json"))
    sizes = vae["ddconfig"]
    change(folder / "vae" / "config.json", layers_per_block=sizes["num_res_blocks"], sample_size=sizes["resolution"],
           block_out_channels=[sizes["ch"] * factor for factor in sizes["ch_mult"]])


def change(file, **values):
    """Set values of a JSON file."""
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def latent_diffusion(file):
    """Return the parameters in a LatentDiffusion configuration."""
    return yaml.safe_load(file.read_text())["model"]["params"]
