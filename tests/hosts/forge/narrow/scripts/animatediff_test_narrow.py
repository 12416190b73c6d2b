"""Extension for tests only: lets Forge and Neo load a checkpoint with SD1.5's layout but smaller widths.

They select a class of huggingface_guess.model_list by two widths, and read every other size from the folder of
configurations that the class names. The widths here are those of the LatentDiffusion configuration beside the
checkpoint.
"""
import json
import shutil
from pathlib import Path

import huggingface_guess  # noqa: F401  it has to be imported before its model_list
import yaml
from backend import loader
from huggingface_guess import model_list
from modules import paths

CONFIGS = Path(loader.__file__).parent / "huggingface" / "runwayml" / "stable-diffusion-v1-5"


def write_configs(folder, params):
    """Write Stable Diffusion 1.5's configurations with the text encoder, tokenizer and VAE sizes of `params`."""
    vae, clip = params["first_stage_config"]["params"], Path(params["cond_stage_config"]["params"]["version"])
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(CONFIGS, folder)
    shutil.copy(clip / "config.json", folder / "text_encoder")
    shutil.rmtree(folder / "tokenizer")
    shutil.copytree(clip, folder / "tokenizer", ignore=shutil.ignore_patterns("config.json"))
    sizes, config = vae["ddconfig"], json.loads((folder / "vae" / "config.json").read_text())
    config["block_out_channels"] = [sizes["ch"] * factor for factor in sizes["ch_mult"]]
    config["layers_per_block"], config["sample_size"] = sizes["num_res_blocks"], sizes["resolution"]
    (folder / "vae" / "config.json").write_text(json.dumps(config))


def narrow(folder, unet):
    sizes = {name: unet[name] for name in ("context_dim", "model_channels")}
    return type("Narrow", (model_list.SD15,), {
        "huggingface_repo": str(folder), "unet_config": {**model_list.SD15.unet_config, **sizes},
        "unet_extra_config": {"num_heads": unet["num_heads"], "num_head_channels": -1}})


def fill(model, weights, *args, load=loader.load_state_dict, **kwargs):
    """Set parameters that no file has to zero. Neo does not initialise them: they differ after each load."""
    load(model, weights, *args, **kwargs)
    for name, parameter in model.named_parameters():
        if name not in weights:
            parameter.data.zero_()


loader.load_state_dict = fill
for file in sorted((Path(paths.models_path) / "Stable-diffusion").glob("*.yaml"))[:1]:
    found = yaml.safe_load(file.read_text())["model"]["params"]
    place = Path(paths.data_path) / "narrow-sd15"
    write_configs(place, found)
    kind = narrow(place, found["unet_config"]["params"])
    model_list.models.insert(0, kind)
    loader.StableDiffusion.matched_guesses.append(kind)
