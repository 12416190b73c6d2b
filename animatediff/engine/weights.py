"""Files of weights: read without running code from them, and recognised when they are not what they are given as."""
from __future__ import annotations

import codecs
import pickle
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from animatediff.errors import ModelError

Shapes = Mapping[str, tuple[int, ...]]


class WeightFile:
    """A .safetensors or torch file, told apart by content. `shapes` is known at once; `read` gives tensors."""

    def __init__(self, path: Path):
        self.path = path = Path(path)
        self._state: dict[str, Tensor] | None = None
        kind = _kind(path)
        if kind == "torch":
            self._state = _load_torch(path)
            self.shapes: Shapes = {key: tuple(value.shape) for key, value in self._state.items()}
        else:
            self.shapes = self._safetensors(lambda f: {k: tuple(f.get_slice(k).get_shape()) for k in f.keys()})

    def read(self, *prefixes: str) -> dict[str, Tensor]:
        """The tensors whose keys begin with one of `prefixes`, on the CPU, in the file's dtype."""
        if self._state is not None:
            return {key: value for key, value in self._state.items() if key.startswith(prefixes)}
        return self._safetensors(lambda f: {k: f.get_tensor(k) for k in f.keys() if k.startswith(prefixes)})

    def _safetensors(self, read: Callable):
        try:
            with safe_open(self.path, framework="pt", device="cpu") as file:
                return read(file)
        except (SafetensorError, ValueError, OSError) as error:
            raise _damaged(self.path, error) from error


def _kind(path: Path) -> str:
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        fact = "there is no such file" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
        raise ModelError(fact, where=str(path), remedy="Check the path") from error
    if head.startswith(b"version https://git-lfs"):
        raise ModelError("is a Git LFS pointer, not the weights", where=str(path), remedy="Run git lfs pull")
    if head.lstrip().lower().startswith((b"<!doctype", b"<html")):
        raise ModelError("is a web page, not the weights", where=str(path), remedy="Download the file itself")
    return "torch" if head.startswith((b"PK", b"\x80")) else "safetensors"


class _Inert:
    """Stands for what training programs leave in checkpoints beside the weights; never called upon."""


# Old SD1.x checkpoints carry a few counters as NumPy scalars and the class of a training callback.
_HARMLESS = [
    (_Inert, "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint"),
    (_Inert, "pytorch_lightning.callbacks.ModelCheckpoint"),
    *((np.float64(0).__reduce__()[0], f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),  # NumPy 1, 2
    (np.dtype, "numpy.dtype"),
    (codecs.encode, "_codecs.encode"),
    *(type(np.dtype(kind)) for kind in ("float64", "float32", "int64", "int32")),
]


def _allowing_harmless() -> AbstractContextManager:
    allow = getattr(torch.serialization, "safe_globals", None)  # torch >= 2.5
    return allow(_HARMLESS) if allow else nullcontext()


def _load_torch(path: Path) -> dict[str, Tensor]:
    options = {"map_location": "cpu", "weights_only": True}
    try:
        with _allowing_harmless():
            try:
                content = torch.load(path, mmap=True, **options)
            except RuntimeError:  # the format before torch 1.6 cannot be mapped
                content = torch.load(path, **options)
    except pickle.UnpicklingError as error:
        if "Unsupported" not in str(error) and "GLOBAL" not in str(error):
            raise _damaged(path, error) from error
        raise ModelError(
            "to read this pickle, code from it would have to run, which is never done",
            where=str(path),
            remedy="Use the .safetensors version of this model, or convert it where you trust its origin",
        ) from error
    except (RuntimeError, EOFError, OSError, LookupError, ValueError, TypeError, AttributeError) as error:
        raise _damaged(path, error) from error
    while isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping):
        raise ModelError("holds no dictionary of tensors", where=str(path), remedy="Use a model's weights")
    return {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}


def _damaged(path: Path, error: Exception) -> ModelError:
    first_line = next(iter(str(error).splitlines()), "").rstrip(".") or type(error).__name__
    return ModelError(
        f"is damaged or cut off and cannot be read ({first_line})",
        where=str(path),
        remedy="Download or copy it again",
    )


def _keys_with(*parts: str) -> Callable[[Shapes], bool]:
    return lambda shapes: any(part in key for key in shapes for part in parts)


_FOR_MOTION = "Give it as the motion module and an SD1.5 checkpoint here"
_ONLY_SD15 = "Use an SD1.5 checkpoint"
_EMBEDDING = {"emb_params", "clip_l", "clip_g"}
_LATER = "is not supported yet by the standalone engine"

# What a file is: evidence in its keys, the fact, the remedy. The first that fits counts.
NOT_CHECKPOINTS: tuple[tuple[Callable[[Shapes], bool], str, str], ...] = (
    (
        _keys_with("motion_modules.", "temporal_transformer."),
        "is a motion module, not an image checkpoint",
        _FOR_MOTION,
    ),
    (
        _keys_with("lora_unet_", "lora_te", ".lora_down.", ".lora_A.", ".lora.down.", "hada_w1"),
        "is a LoRA, not an image checkpoint",
        "Give the SD1.5 checkpoint that it is for",
    ),
    (
        _keys_with("input_hint_block.", "controlnet_cond_embedding."),
        "is a ControlNet, not an image checkpoint",
        _ONLY_SD15,
    ),
    (lambda s: bool(s) and s.keys() <= _EMBEDDING, "is a textual inversion embedding", _ONLY_SD15),
    (_keys_with("conditioner.embedders."), f"is an SDXL checkpoint, which {_LATER}", _ONLY_SD15),
    (_keys_with("cond_stage_model.model."), f"is an SD2 checkpoint, which {_LATER}", _ONLY_SD15),
    (_keys_with("joint_blocks."), f"is an SD3 checkpoint, which {_LATER}", _ONLY_SD15),
    (_keys_with("double_blocks."), f"is a Flux checkpoint, which {_LATER}", _ONLY_SD15),
    (
        lambda s: any(k.startswith("down_blocks.") for k in s),
        "is one part of a model in diffusers' naming",
        "Give the whole folder that has model_index.json",
    ),
    (
        lambda s: any(k.startswith("encoder.conv_in.") for k in s),
        "is a VAE, not an image checkpoint",
        _ONLY_SD15,
    ),
    (
        lambda s: not any(k.startswith("model.diffusion_model.input_blocks.") for k in s),
        "is not a Stable Diffusion checkpoint",
        _ONLY_SD15,
    ),
)


def require_checkpoint(file: WeightFile) -> None:
    """Raise a ModelError that says what the file is when it is not a Stable Diffusion 1.x checkpoint."""
    for fits, fact, remedy in NOT_CHECKPOINTS:
        if fits(file.shapes):
            raise ModelError(fact, where=str(file.path), remedy=remedy)
    channels = file.shapes.get("model.diffusion_model.input_blocks.0.0.weight", (0, 4))[1]
    if channels != 4:
        kind = {9: "an inpainting checkpoint", 8: "an image-editing (InstructPix2Pix) or upscaling checkpoint"}
        raise ModelError(
            f"is {kind.get(channels, 'a checkpoint')} ({channels} input channels), which {_LATER}",
            where=str(file.path),
            remedy=_ONLY_SD15 + " for text to image (4 input channels)",
        )
