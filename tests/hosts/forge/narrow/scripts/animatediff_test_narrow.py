"""Extension for tests only: lets Forge and Neo load a checkpoint with SD1.5's layout but smaller widths.

They select a class of huggingface_guess.model_list by two widths, and read every other size from the folder of
configurations that the class names. The widths here are those of the LatentDiffusion configuration beside the
checkpoint.
"""
from pathlib import Path

import huggingface_guess  # noqa: F401  it has to be imported before its model_list
from backend import loader
from huggingface_guess import model_list
from modules import paths
from narrow_configs import CHECKPOINTS, latent_diffusion, write_configs


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
for file in sorted(CHECKPOINTS.glob("*.yaml"))[:1]:
    found = latent_diffusion(file)
    place = Path(paths.data_path) / "narrow-sd15"
    write_configs("runwayml/stable-diffusion-v1-5", place, found)
    kind = narrow(place, found["unet_config"]["params"])
    model_list.models.insert(0, kind)
    loader.StableDiffusion.matched_guesses.append(kind)
