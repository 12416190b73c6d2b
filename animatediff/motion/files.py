"""Read the tensors of a checkpoint file, without ever running code that it contains."""

from __future__ import annotations

import json
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from animatediff.errors import ModelError
from animatediff.motion.naming import unwrap

_CONVERTED_AT_ONCE = 32  # tensors
_DAMAGED = "Download it again, and compare its size with the one that the download page states."
# What a folder in diffusers' layout keeps its weights in, in the order of preference.
_IN_FOLDER = (
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.fp16.safetensors",
    "diffusion_pytorch_model.bin",
)


def read_tensors(path: Path, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
    """Tensors by key of a .safetensors, .ckpt, .pth or .bin file, or a diffusers folder; on the CPU.

    Those of real numbers become `dtype`, where it is given, a few at a time, so that only these are in memory in both.
    """
    path = resolve(path)
    if _is_safetensors(path):
        with _safe_open(path) as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}
        others = _not_in(dtype, tensors)
        for first in range(0, len(others), _CONVERTED_AT_ONCE):
            with _safe_open(path) as file:  # anew, as pages of a mapped file stay in memory as long as it is mapped
                for key in others[first : first + _CONVERTED_AT_ONCE]:
                    tensors[key] = file.get_tensor(key).to(dtype)
        return tensors
    tensors = unwrap(_torch_load(path, mmap=False))
    for key in _not_in(dtype, tensors):
        tensors[key] = tensors[key].to(dtype)
    return tensors


def _not_in(dtype: torch.dtype | None, tensors: dict[str, Any]) -> list[str]:
    """Keys of those that are to be converted."""
    return [key for key, value in tensors.items()
            if dtype and isinstance(value, Tensor) and value.is_floating_point() and value.dtype != dtype]


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Shapes by key of the same, without reading the weights."""
    path = resolve(path)
    if _is_safetensors(path):
        with _safe_open(path) as file:
            return {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}
    return {key: tuple(tensor.shape) for key, tensor in unwrap(_torch_load(path, mmap=True)).items()}


def resolve(path: Path) -> Path:
    """The weights' file: `path` itself, or the one inside a diffusers folder."""
    if path.is_dir():
        for name in _IN_FOLDER:
            if (path / name).is_file():
                return path / name
        raise ModelError(
            f"the folder {path} holds no {_IN_FOLDER[0]}",
            remedy="Name a motion module's file or a MotionAdapter folder.",
        )
    if not path.is_file():
        raise ModelError(f"{path} does not exist", remedy="Check the path, or list what there is: animatediff models.")
    return path


def read_config(path: Path) -> dict[str, Any]:
    """config.json of a diffusers folder (or beside its weights' file), {} where there is none."""
    config = (path if path.is_dir() else path.parent) / "config.json"
    try:
        found = json.loads(config.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and found.get("_class_name") == "MotionAdapter" else {}


def _is_safetensors(path: Path) -> bool:
    """By content, not by suffix: files get renamed."""
    with path.open("rb") as file:
        start = file.read(64)
    if start[8:9] == b"{":
        return True
    if not start:
        raise ModelError(f"{path.name} is empty", remedy=_DAMAGED)
    if start.startswith(b"version https://git-lfs"):
        raise ModelError(
            f"{path.name} is a Git LFS pointer, not the file itself",
            remedy="Fetch it with `git lfs pull`, or download it.",
        )
    if start.lstrip()[:1] == b"<":
        raise ModelError(f"{path.name} is a web page, not a model file", remedy="Use the page's download link.")
    return False


def _safe_open(path: Path):
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, ValueError) as error:
        raise ModelError(f"{path.name} is truncated or damaged ({error})", remedy=_DAMAGED) from error


def _torch_load(path: Path, mmap: bool) -> dict[str, Any]:
    with path.open("rb") as file:
        if not file.read(2).startswith((b"PK", b"\x80")):  # a zip archive since PyTorch 1.6, a bare pickle before
            raise ModelError(f"{path.name} is no model file, or damaged", remedy=_DAMAGED)
    # By a handle, PyTorch cannot go by the suffix, which may be wrong; mapping the file into memory takes its name.
    mapped = mmap and path.suffix != ".safetensors" and zipfile.is_zipfile(path)
    try:
        with path.open("rb") as file:
            # Not torch.load: the WebUI puts its own in that place, which refuses open files, old pickles and some
            # archives of new PyTorch, and prints a traceback. weights_only lets less through than it does.
            loaded = torch.serialization.load(
                str(path) if mapped else file, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        culprit = re.search(r"(?:GLOBAL|[Cc]lass) ([\w.]+)", str(error))
        if culprit:
            raise ModelError(
                f"{path.name} holds pickled Python objects ({culprit[1]}), which can run code when they are loaded",
                remedy="Get a .safetensors version of it; files of that kind hold nothing but tensors.",
            ) from error
        raise ModelError(f"{path.name} is no model file, or damaged", remedy=_DAMAGED) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError) as error:
        raise ModelError(f"{path.name} is truncated or damaged ({_first_line(error)})", remedy=_DAMAGED) from error
    if not isinstance(loaded, dict):
        raise ModelError(f"{path.name} holds a {type(loaded).__name__}, not tensors by name", remedy=_DAMAGED)
    return loaded


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
