"""Extension for tests only: lets reForge load a checkpoint with SD1.5's layout but smaller widths.

reForge identifies a model by two widths, and has the widths of CLIP and the VAE in its code. Here all of them are read
from the LatentDiffusion configuration beside the checkpoint.
"""
import json
from pathlib import Path

import yaml
from ldm_patched.modules import sd, sd1_clip, supported_models, supported_models_base
from modules import paths


def clip_target(folder):
    config = json.loads((folder / "config.json").read_text())
    special = {name: config[f"{key}_token_id"] for name, key in (("start", "bos"), ("end", "eos"), ("pad", "pad"))}

    class Encoder(sd1_clip.SD1CheckpointClipModel):
        def __init__(self, device="cpu", dtype=None, model_options=None):
            sd1_clip.SDClipModel.__init__(self, device=device, return_projected_pooled=False, dtype=dtype,
                                          model_options=model_options or {}, textmodel_json_config=config,
                                          special_tokens=special)

    class Model(sd1_clip.SD1ClipModel):
        def __init__(self, **more):
            super().__init__(clip_model=Encoder, **more)

    class Words(sd1_clip.SDTokenizer):
        def __init__(self, **more):
            super().__init__(tokenizer_path=str(folder), embedding_size=config["hidden_size"], **more)

    class Tokenizer(sd1_clip.SD1Tokenizer):
        def __init__(self, **more):
            super().__init__(tokenizer=Words, **more)

    return supported_models_base.ClipTarget(Tokenizer, Model)


def narrow(unet, clip):
    sizes = {name: unet[name] for name in ("context_dim", "model_channels")}
    return type("Narrow", (supported_models.SD15,), {
        "unet_config": {**supported_models.SD15.unet_config, **sizes},
        "unet_extra_config": {"num_heads": unet["num_heads"], "num_head_channels": -1},
        "clip_target": lambda self, state_dict=None: clip_target(clip)})


def with_sizes(plain, sizes):
    def init(self, sd=None, *args, **more):
        last = (sd or {}).get("decoder.conv_out.weight")
        if last is not None and last.shape[1] == sizes["ch"] * sizes["ch_mult"][0] and not args:
            more["config"] = more.get("config") or {"params": {"ddconfig": dict(sizes), "embed_dim": 4}}
        return plain(self, sd, *args, **more)

    return init


for file in sorted((Path(paths.models_path) / "Stable-diffusion").glob("*.yaml"))[:1]:
    found = yaml.safe_load(file.read_text())["model"]["params"]
    folder = Path(found["cond_stage_config"]["params"]["version"])
    supported_models.models.insert(0, narrow(found["unet_config"]["params"], folder))
    sd.VAE.__init__ = with_sizes(sd.VAE.__init__, found["first_stage_config"]["params"]["ddconfig"])
