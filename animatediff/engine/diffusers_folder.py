"""Load image models offline from folders as `save_pretrained` of diffusers' StableDiffusionPipeline writes them."""
from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from animatediff.engine import keys, tokenizer
from animatediff.engine.components import Components, schedule
from animatediff.engine.filling import TEXT_ENCODER, Origin, fill
from animatediff.engine.text import TextEncoder
from animatediff.errors import ModelError, quoted
from animatediff.weights.boundary import printable, read_json, reading
from animatediff.weights.files import WeightFile

_REMEDY = "Restore the folder's files"
_PARTS = {"unet": "UNet", "vae": "VAE", "text_encoder": TEXT_ENCODER}
_KINDS = ("StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline", "AnimateDiffPipeline")
# Names of weight files in order of preference: half precision only if there is no other.
_STEMS = ("diffusion_pytorch_model", "model", "pytorch_model")
_ENDINGS = (".safetensors", ".fp16.safetensors", ".bin", ".fp16.bin")
_MOST_LAYERS, _MOST_CHANNELS, _MOST_TOKENS = 100, 2**16, 2**20  # largest values in a config.json


def load(path: Path, device: torch.device, dtype: torch.dtype) -> Components:
    """Load a folder as `save_pretrained` writes it. Raise ModelError if it is incomplete or another kind of model."""
    index = path / "model_index.json"
    if not index.is_file():
        raise ModelError(
            "the folder has no model_index.json", where=str(path), remedy="Give a checkpoint file or a diffusers folder"
        )
    kind = read_json(index, _REMEDY).get("_class_name", "")
    if kind not in _KINDS:
        raise ModelError(
            f"is a model for {printable(quoted(kind)).strip(chr(39))}, which is not supported yet by the standalone "
            "engine", where=str(path), remedy="Use an SD1.5 model (StableDiffusionPipeline)",
        )
    unet, vae, text = (_network(path / folder, device, dtype) for folder in _PARTS)
    if (channels := unet.config.in_channels) != 4:
        raise ModelError(
            f"the UNet has {channels} input channels (inpainting or editing), which is not supported yet",
            where=str(path),
            remedy="Use an SD1.5 model for text to image",
        )
    sampling = path / "scheduler" / "scheduler_config.json"
    options = read_json(sampling, _REMEDY) if sampling.is_file() else {}
    betas = schedule(sampling, kind=options.get("beta_schedule"), start=options.get("beta_start"),
                     end=options.get("beta_end"), steps=options.get("num_train_timesteps"))
    prediction = options.get("prediction_type", "epsilon")
    if prediction not in ("epsilon", "v_prediction"):
        raise ModelError(f"the prediction {quoted(prediction)} is not supported", where=str(sampling),
                         remedy="Use a model that predicts epsilon or v_prediction")
    encoder = TextEncoder(text, tokenizer.from_folder(path / "tokenizer"))
    return Components(unet, vae, encoder, path.name, betas, prediction, path)


def _network(folder: Path, device: torch.device, dtype: torch.dtype) -> Any:
    """Load one of the folder's networks: a name in _PARTS."""
    part = _PARTS[folder.name]
    try:
        with reading(folder, _REMEDY):
            if not folder.is_dir():
                raise ModelError("it is not there", remedy=_REMEDY)
            network = _built(folder.name, read_json(folder / "config.json", _REMEDY))
            state, origin = _weights(folder)
            known = {key.removeprefix("text_model.") for key in network.state_dict()}
            wanted = {name: tensor for key, tensor in state.items() if (name := _name(key, part)) in known}
            fill(network, {name: _as_linear(tensor) if ".attentions." in name and part == "VAE" else tensor
                           for name, tensor in wanted.items()}, device, dtype, part, origin)
            return network
    except ModelError as error:
        what = error.what if error.what.startswith(f"the {part} ") else f"the {folder.name} cannot be loaded: {error}"
        raise ModelError(what.removesuffix(f". {error.remedy}"), where=str(folder), remedy=error.remedy) from error


def _built(folder: str, config: Mapping[str, Any]) -> nn.Module:
    """Return the network that a config.json describes, on the meta device."""
    refusal = ModelError("config.json does not describe a network", remedy=_REMEDY)
    if not all(_plausible(name, value) for name, value in config.items()):
        raise refusal
    try:
        with torch.device("meta"):
            if folder == "text_encoder":
                return CLIPTextModel(CLIPTextConfig.from_dict(dict(config)))
            kind: Any = UNet2DConditionModel if folder == "unet" else AutoencoderKL
            return kind.from_config(dict(config))
    except Exception as error:  # the libraries raise any kind of error for invalid values
        raise refusal from error


def _plausible(name: str, value: Any) -> bool:
    """Return whether a value of a config.json is not too large.

    Networks on the meta device take no memory for tensors, but each layer takes time and memory to build.
    """
    if isinstance(value, (list, tuple)):
        return len(value) <= _MOST_LAYERS and all(_plausible(name, each) for each in value)
    if type(value) is not int:
        return True
    most = _MOST_LAYERS if "layers" in name else _MOST_TOKENS if name.endswith(("_size", "_id")) else _MOST_CHANNELS
    return -1 <= value <= most


def _weights(folder: Path) -> tuple[dict[str, Tensor], Origin]:
    """Return the tensors of the folder's files, and their origin for errors."""
    names = [f"{stem}{ending}" for ending in _ENDINGS for stem in _STEMS]
    for name in names:
        if (folder / name).is_file():
            file = WeightFile(folder / name)
            state = file.read()
            return state, Origin.of(file.name, state)
        if (folder / f"{name}.index.json").is_file():
            return _in_parts(folder, read_json(folder / f"{name}.index.json", _REMEDY))
    raise ModelError(f"there is no {names[0]} or {names[1]}", remedy=_REMEDY)


def _in_parts(folder: Path, index: Mapping[str, Any]) -> tuple[dict[str, Tensor], Origin]:
    """Return the tensors of several files that an index names, and their origin for errors."""
    table = index.get("weight_map")
    names = sorted({str(name) for name in table.values()}) if isinstance(table, dict) else []
    if not names or any(Path(name).name != name for name in names):
        raise ModelError("the index of its weights names no files of the folder", remedy=_REMEDY)
    state: dict[str, Tensor] = {}
    for name in names:
        state |= WeightFile(folder / name).read()
    return state, Origin.of(folder.name, state)


def _name(key: str, part: str) -> str:
    """Return a tensor's name in current versions of the libraries."""
    return keys.vae_new_name(key) if part == "VAE" else key.removeprefix("text_model.")


def _as_linear(tensor: Tensor) -> Tensor:
    """Return a weight of the VAE's attention as a linear layer's. Some files store it as a 1x1 convolution."""
    return tensor[:, :, 0, 0] if tensor.ndim == 4 and tensor.shape[2:] == (1, 1) else tensor
