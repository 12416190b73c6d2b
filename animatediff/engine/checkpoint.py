"""Load image models offline: single files in LDM's layout, and diffusers folders.

Widths, depths and vocabulary size of a single file are read from its tensors. The number of heads, the latent scale,
the noise schedule and the prediction type are read from a `NAME.yaml` beside it, as in WebUIs. Without one, they are
those of Stable Diffusion 1.5.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
import yaml
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel

from animatediff.engine import diffusers_folder, keys, tokenizer
from animatediff.engine.components import Components, schedule
from animatediff.engine.filling import TEXT_ENCODER, Origin, fill
from animatediff.engine.text import TextEncoder
from animatediff.engine.tokenizer import ClipTokenizer
from animatediff.errors import ModelError, quoted
from animatediff.weights.boundary import one_line, read_json, reading
from animatediff.weights.files import WeightFile
from animatediff.weights.kinds import CHECKPOINT, MOTION_MODULE, kind_of

T = TypeVar("T")
SD15_SCALING = 0.18215
_ONLY_SD15 = "Use an SD1.5 checkpoint for text to image (4 input channels)"
_FOR_MOTION = "Give it as the motion module and an SD1.5 checkpoint here"
_WHOLE = "Give the whole checkpoint, or the folder that has model_index.json"
_OTHER = "Use a complete SD1.5 checkpoint, with the .yaml that belongs to it"
_MOST = 2**20  # largest length of a tensor along an axis, and largest number in a .yaml
_LARGEST_SIDECAR = 2**20  # bytes


def load(path: Path | str, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Components:
    """Load a .safetensors/.ckpt file or a diffusers folder. Raises ModelError; never goes to the network."""
    path = Path(path)
    if path.is_dir():
        return diffusers_folder.load(path, torch.device(device), dtype)
    return _opened(path, lambda file: _load_file(file, torch.device(device), dtype))


def check(path: Path | str) -> None:
    """Raise ModelError if the file is not an SD1.5 checkpoint; the error says what it is. It is not loaded."""
    path = Path(path)
    if not path.is_dir():
        _opened(path, lambda file: None)


def _opened(path: Path, use: Callable[[WeightFile], T]) -> T:
    """Return `use(file)` for an SD1.5 checkpoint. Errors name the path once."""
    try:
        with reading(path, _OTHER):
            file = WeightFile(path)
            _require_checkpoint(file)
            return use(file)
    except ModelError as error:
        where = error.where if str(path.parent) in error.where else ": ".join(filter(None, (str(path), error.where)))
        what = error.what.removeprefix(f"{path} ").removeprefix(f"{path.name} ")
        raise ModelError(what, where=where, remedy=error.remedy) from error


def _require_checkpoint(file: WeightFile) -> None:
    """Raise ModelError if the file is not an SD1.5 checkpoint; the error says what it is."""
    kind = kind_of(file.shapes)
    if kind is None:
        raise ModelError("is not a Stable Diffusion checkpoint", remedy=_ONLY_SD15)
    if kind.name in ("diffusers part", "VAE"):
        raise ModelError(f"is {kind.phrase}, not an image checkpoint", remedy=_WHOLE)
    if kind.is_image_model and kind.name != CHECKPOINT:
        raise ModelError(f"is {kind.phrase}, which is not supported on the command line yet", remedy=_ONLY_SD15)
    if kind.name != CHECKPOINT:
        raise ModelError(f"is {kind.phrase}, not an image checkpoint",
                         remedy=_FOR_MOTION if kind.name == MOTION_MODULE else _ONLY_SD15)


def _load_file(file: WeightFile, device: torch.device, dtype: torch.dtype) -> Components:
    sidecar = file.path.with_suffix(".yaml")
    params = _sidecar(sidecar)
    state = file.read(keys.UNET, keys.VAE, keys.TEXT_SHORT)
    origin = Origin.of(file.name, state)
    unet_state, vae_state, text_state = keys.unet_from_ldm(state), keys.vae_from_ldm(state), keys.text_from_ldm(state)
    del state
    clip = _clip_folder(params, sidecar)
    with _built():
        text_config = _text_config(text_state, clip)
    tokens = _tokenizer(text_config.vocab_size, clip)
    unet_options, vae_options = unet_config(unet_state, params), vae_config(vae_state, params)
    with _built(), torch.device("meta"):
        unet, vae = UNet2DConditionModel(**unet_options), AutoencoderKL(**vae_options)
        text = CLIPTextModel(text_config)
    width = unet.config["cross_attention_dim"]
    if width != text_config.hidden_size:
        raise ModelError(
            f"the UNet expects text of width {width} and the text encoder gives {text_config.hidden_size}",
            remedy="Use an SD1.5 checkpoint",
        )
    fill(unet, unet_state, device, dtype, "UNet", origin)
    fill(vae, vae_state, device, dtype, "VAE", origin)
    fill(text, text_state, device, dtype, TEXT_ENCODER, origin)
    betas = schedule(sidecar, start=params.get("linear_start"), end=params.get("linear_end"),
                     steps=params.get("timesteps"))
    parameterization = params.get("parameterization", "eps")
    if parameterization not in ("eps", "v"):
        raise ModelError(f"parameterization {quoted(parameterization)} is unknown", where=str(sidecar),
                         remedy="Use eps or v")
    prediction = "v_prediction" if parameterization == "v" else "epsilon"
    return Components(unet, vae, TextEncoder(text, tokens), file.path.stem, betas, prediction, file.path)


def unet_config(state: Mapping[str, Tensor], params: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the arguments of `UNet2DConditionModel` for a state dict with its names.

    params: parameters of LatentDiffusion, for values that shapes do not determine.
    """
    extra = _at(params or {}, "unet_config", "params")
    layers = _counts(state, "down_blocks.{}.resnets.{}.conv1.weight")
    levels = range(len(layers))
    widths = tuple(_side(state, f"down_blocks.{i}.resnets.0.conv1.weight", 0) for i in levels)
    attended = [any(k.startswith(f"down_blocks.{i}.attentions.") for k in state) for i in levels]
    if not layers:
        raise ModelError("the UNet has no ResBlocks going down", remedy=_OTHER)
    depths = [_depth(state, f"down_blocks.{i}.attentions.0.transformer_blocks.") for i in levels]
    cross = next((_side(state, k, 1) for k in state if k.endswith("attn2.to_k.weight")), None)
    projection = next((v for k, v in state.items() if k.endswith("attentions.0.proj_in.weight")), None)
    if cross is None or projection is None:
        raise ModelError("the UNet has no cross-attention", remedy="Use an SD1.5 checkpoint")
    per_head, heads = (int(_number(extra, name, default)) for name, default in (("num_head_channels", -1),
                                                                                ("num_heads", 8)))
    return {
        "sample_size": int(_number(extra, "image_size", 64)),
        "in_channels": _side(state, "conv_in.weight", 1),
        "out_channels": _side(state, "conv_out.weight", 0),
        "block_out_channels": widths,
        "layers_per_block": layers[0] if len(set(layers)) == 1 else tuple(layers),
        "down_block_types": tuple("CrossAttnDownBlock2D" if a else "DownBlock2D" for a in attended),
        "up_block_types": tuple("CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attended)),
        "cross_attention_dim": cross,
        "transformer_layers_per_block": tuple(d or 1 for d in depths) if max(depths) > 1 else 1,
        # In diffusers this is the number of heads for SD1.x, despite its name. It is kept for compatibility there.
        "attention_head_dim": tuple(w // per_head for w in widths) if per_head > 0 else heads,
        "use_linear_projection": projection.ndim == 2,
    }


def vae_config(state: Mapping[str, Tensor], params: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the arguments of `AutoencoderKL` for a state dict with its names. params: see `unet_config`."""
    layers = _counts(state, "encoder.down_blocks.{}.resnets.{}.conv1.weight")
    return {
        "in_channels": _side(state, "encoder.conv_in.weight", 1),
        "out_channels": _side(state, "decoder.conv_out.weight", 0),
        "down_block_types": ("DownEncoderBlock2D",) * len(layers),
        "up_block_types": ("UpDecoderBlock2D",) * len(layers),
        "block_out_channels": tuple(
            _side(state, f"encoder.down_blocks.{i}.resnets.0.conv1.weight", 0) for i in range(len(layers))
        ),
        "layers_per_block": layers[0] if layers else 0,
        "latent_channels": _side(state, "decoder.conv_in.weight", 1),
        "scaling_factor": _number(params or {}, "scale_factor", SD15_SCALING),
        "sample_size": int(_number(_at(params or {}, "first_stage_config", "params", "ddconfig"), "resolution", 512)),
    }


def _text_config(state: Mapping[str, Tensor], folder: Path | None) -> CLIPTextConfig:
    """Return the text encoder's configuration.

    Values come from the tensors, then from the folder's config.json, then from CLIP.
    """
    rows, hidden = (_side(state, "embeddings.token_embedding.weight", axis) for axis in (0, 1))
    known = read_json(folder / "config.json") if folder and (folder / "config.json").is_file() else {}
    known = _at(known, "text_config") or known
    return CLIPTextConfig(
        vocab_size=rows,
        hidden_size=hidden,
        intermediate_size=_side(state, "encoder.layers.0.mlp.fc1.weight", 0),
        num_hidden_layers=_depth(state, "encoder.layers."),
        num_attention_heads=known.get("num_attention_heads", max(hidden // 64, 1)),
        max_position_embeddings=_side(state, "embeddings.position_embedding.weight", 0),
        hidden_act=known.get("hidden_act", "quick_gelu"),
        layer_norm_eps=known.get("layer_norm_eps", 1e-5),
        bos_token_id=rows - 2,
        eos_token_id=rows - 1,
        pad_token_id=rows - 1,
    )


def _tokenizer(rows: int, folder: Path | None) -> ClipTokenizer:
    if folder:
        tokens = tokenizer.from_folder(folder)
    elif rows == tokenizer.CLIP_SIZE:
        tokens = tokenizer.shipped()
    else:
        raise ModelError(
            f"the text encoder has {rows} tokens, CLIP has {tokenizer.CLIP_SIZE}",
            remedy="Name its tokenizer's folder in cond_stage_config.params.version of a .yaml beside the checkpoint",
        )
    if tokens.size > rows:
        raise ModelError(
            f"the tokenizer has {tokens.size} tokens and the text encoder {rows}",
            where=str(folder or ""),
            remedy="Use the tokenizer that belongs to the checkpoint",
        )
    return tokens


def _sidecar(path: Path) -> dict[str, Any]:
    """Return `model.params` of the LatentDiffusion configuration in the .yaml, {} if there is no such file."""
    if not path.is_file():
        return {}
    try:
        if path.stat().st_size > _LARGEST_SIDECAR:
            raise ModelError("is too large for a settings file", where=str(path), remedy="Correct or remove it")
        return _at(yaml.safe_load(path.read_text(encoding="utf-8-sig")), "model", "params")
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = one_line(" ".join(str(error).split()))
        raise ModelError(f"is not valid YAML ({reason})", where=str(path), remedy="Correct or remove it") from error


def _clip_folder(params: Mapping[str, Any], sidecar: Path) -> Path | None:
    """Return the local folder of the text encoder that the .yaml names, or None.

    A name on a hub, such as openai/clip-vit-large-patch14, gives None.
    """
    version = _at(params, "cond_stage_config", "params").get("version")
    if not isinstance(version, str):
        return None
    folder = sidecar.parent / version
    return folder if folder.is_dir() else None


@contextmanager
def _built() -> Iterator[None]:
    """A context in which the libraries' errors about impossible sizes become ModelError.

    The sizes come from the tensors and the .yaml.
    """
    try:
        yield
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise ModelError("has sizes that no Stable Diffusion model has, in its tensors or in the .yaml beside it",
                         remedy=_OTHER) from error


def _side(state: Mapping[str, Tensor], key: str, axis: int) -> int:
    """Return the length of a tensor along an axis. Raise ModelError if it is missing or impossible."""
    if key not in state:
        raise ModelError(f"lacks {key}", remedy=_OTHER)
    shape = state[key].shape
    if axis >= len(shape) or not 0 < shape[axis] <= _MOST:
        raise ModelError(f"has {key} of shape {list(shape)}, which is not a possible shape", remedy=_OTHER)
    return shape[axis]


def _number(params: Mapping[str, Any], name: str, default: float) -> float:
    """Return a number of the .yaml. Raise ModelError if it is impossible."""
    value = params.get(name, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= _MOST:
        raise ModelError(f"{name} is {quoted(value)} in the .yaml beside it, which is not a possible value",
                         remedy="Correct or remove the .yaml")
    return value


def _at(tree: Any, *names: str) -> dict[str, Any]:
    """Return the nested mapping under `names`, {} if one of them is missing."""
    for name in names:
        tree = tree.get(name) if isinstance(tree, Mapping) else None
    return dict(tree) if isinstance(tree, Mapping) else {}


def _counts(state: Mapping[str, Tensor], template: str) -> list[int]:
    """Return the layers per level: for each i the number of j for which the key `template.format(i, j)` exists."""
    counts: list[int] = []
    while template.format(len(counts), 0) in state:
        j = 1
        while template.format(len(counts), j) in state:
            j += 1
        counts.append(j)
    return counts


def _depth(state: Mapping[str, Tensor], prefix: str) -> int:
    """Return the number of children under `prefix`."""
    return len({key[len(prefix) :].split(".", 1)[0] for key in state if key.startswith(prefix)})
