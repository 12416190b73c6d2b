"""Extension for tests only: writes xl.safetensors, a checkpoint with SDXL's layout, small widths and random weights.

reForge identifies SDXL by its widths, so a class with these widths is added. Its noise schedule is that of
AnimateDiff-SDXL, so that a module of this family changes no noise level.
"""
import json
from pathlib import Path

import torch
import yaml
from ldm_patched.ldm.modules.diffusionmodules import openaimodel
from ldm_patched.modules import ops, sd1_clip, sdxl_clip, supported_models, supported_models_base
from modules import paths, script_callbacks
from safetensors.torch import load_file, save_file

FOLDER = Path(paths.models_path) / "Stable-diffusion"
SDXL_CONFIG = Path(paths.script_path, "repositories/generative-models/configs/inference/sd_xl_base.yaml")
SCHEDULE = {"linear_start": 0.00085, "linear_end": 0.020}
POOLED, PREFIX = 32, "conditioner."
END = 49407  # the host has the numbers of the second text encoder's tokens in its code
UNET = {"model_channels": 32, "transformer_depth": [0, 0, 1, 1, 2, 2], "adm_in_channels": POOLED + 6 * 256,
        "use_linear_in_transformer": True}
WHOLE = {"image_size": 32, "in_channels": 4, "out_channels": 4, "num_res_blocks": [2, 2, 2], "channel_mult": [1, 2, 4],
         "num_classes": "sequential", "use_spatial_transformer": True, "legacy": False, "transformer_depth_middle": 2,
         "transformer_depth_output": [0, 0, 0, 1, 1, 1, 2, 2, 2], "num_heads": -1, "num_head_channels": 32}


def encoder(config, pad):
    special = {"start": config["bos_token_id"], "end": config["eos_token_id"], "pad": pad}
    return sd1_clip.SDClipModel(layer="hidden", layer_idx=-2, textmodel_json_config=config, special_tokens=special,
                                layer_norm_hidden_state=False, dtype=torch.float32)


def clip_target(folder):
    first = json.loads((folder / "config.json").read_text())
    second = {**first, "hidden_size": POOLED, "intermediate_size": 2 * POOLED, "projection_dim": POOLED,
              "vocab_size": END + 1, "bos_token_id": END - 1, "eos_token_id": END}

    class Clip(sdxl_clip.SDXLClipModel):
        def __init__(self, **more):
            torch.nn.Module.__init__(self)
            self.clip_l, self.clip_g = encoder(first, first["pad_token_id"]), encoder(second, 0)
            self.dtypes = {torch.float32}

    class Tokenizer(sdxl_clip.SDXLTokenizer):
        def __init__(self, **more):
            self.clip_l, self.clip_g = (
                sd1_clip.SDTokenizer(tokenizer_path=str(folder), embedding_size=size, **more)
                for size in (first["hidden_size"], POOLED))

    return supported_models_base.ClipTarget(Tokenizer, Clip), first["hidden_size"] + POOLED


def random_weights(network, prefix, random):
    made = {}
    for name, value in network.state_dict().items():
        size = value[0].numel() if value.ndim > 1 else 0
        made[prefix + name] = torch.randn(value.shape, generator=random) / size**0.5 if size else \
            torch.full(value.shape, float(name.endswith(("weight", "logit_scale"))))
    return made


def write(target, width, demo):
    random = torch.Generator().manual_seed(0)
    unet = openaimodel.UNetModel(**WHOLE, **UNET, context_dim=width, operations=ops.disable_weight_init)
    vae = {key: value for key, value in load_file(demo).items() if key.startswith("first_stage_model.")}
    state = random_weights(unet, "model.diffusion_model.", random) | random_weights(target.clip(), PREFIX, random)
    save_file({**vae, **state}, FOLDER / "xl.safetensors")
    config = yaml.safe_load(SDXL_CONFIG.read_text())
    config["model"]["params"]["conditioner_config"]["params"]["emb_models"][0]["params"]["layer_idx"] = 2
    (FOLDER / "xl.yaml").write_text(yaml.safe_dump(config))


def with_schedule(model):
    """The host's samplers read the schedule of SDXL from here, whatever the class above says."""
    if getattr(model, "is_sdxl", False):
        sigmas = model.forge_objects.unet.model.model_sampling.sigmas
        model.alphas_cumprod = (1 / (sigmas**2 + 1)).to(model.alphas_cumprod)


script_callbacks.on_model_loaded(with_schedule)
for file in FOLDER.glob("demo.yaml"):
    TARGET, WIDTH = clip_target(Path(yaml.safe_load(file.read_text())["model"]["params"]["cond_stage_config"]["params"][
        "version"]))
    supported_models.models.insert(0, type("NarrowXL", (supported_models.SDXL,), {
        "unet_config": {**supported_models.SDXL.unet_config, **UNET, "context_dim": WIDTH},
        "unet_extra_config": {"num_heads": -1, "num_head_channels": 32}, "sampling_settings": SCHEDULE,
        "clip_target": lambda self, state_dict=None: TARGET,
        "process_clip_state_dict": lambda self, state_dict: {
            key.removeprefix(PREFIX): value for key, value in state_dict.items() if key.startswith(PREFIX)}}))
    if not (FOLDER / "xl.safetensors").exists():
        write(TARGET, WIDTH, file.with_suffix(".safetensors"))
