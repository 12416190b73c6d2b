"""Extension for tests only: a preprocessor for IP-Adapters with a small CLIP vision network that has random weights."""
import json
from copy import copy
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import torch
from modules import paths, script_callbacks
from modules_forge.shared import supported_preprocessors

NAME, LIKE = "tiny CLIP (IPAdapter)", "CLIP-ViT-H (IPAdapter)"
SIZES = {"hidden_size": 32, "image_size": 224, "intermediate_size": 64, "num_attention_heads": 2, "num_channels": 3,
         "num_hidden_layers": 2, "patch_size": 56, "projection_dim": 16, "hidden_act": "gelu", "layer_norm_eps": 1e-5,
         "attention_dropout": 0.0, "dropout": 0.0, "initializer_factor": 1.0, "initializer_range": 0.02,
         "model_type": "clip_vision_model", "torch_dtype": "float32"}


def network():
    if find_spec("ldm_patched"):  # reForge
        path = Path(paths.data_path) / "tiny-clip.json"
        path.write_text(json.dumps(SIZES))
        made = import_module("ldm_patched.modules.clip_vision").ClipVisionModel(str(path))
    else:
        made = import_module("backend.patcher.clipvision").ClipVisionModel(SIZES)
    random = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in made.model.parameters():
            fan = weight[0].numel() if weight.ndim > 1 else 1
            weight.copy_(torch.randn(weight.shape, generator=random) / fan**0.5)
    return made


def add(*_):
    ours = copy(supported_preprocessors[LIKE])
    ours.name, ours.clipvision = NAME, network()
    supported_preprocessors[NAME] = ours


script_callbacks.on_app_started(add)
