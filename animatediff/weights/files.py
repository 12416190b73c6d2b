"""Files of weights, told apart by content, and their tensors by key."""
from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from animatediff.errors import ModelError
from animatediff.weights.naming import unwrap
from animatediff.weights.pickles import MAGIC, Damaged, NotWeights, TorchFile

Shape = tuple[int, ...]
T = TypeVar("T")
_CONVERTED_AT_ONCE = 32  # tensors
_DAMAGED = "Download it again, and compare its size with the one that the download page states."
# What a folder in diffusers' layout keeps its weights in, in the order of preference.
_IN_FOLDER = (
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.fp16.safetensors",
    "diffusion_pytorch_model.bin",
)


class UnreadableError(ModelError):
    """The system does not give the file, which may be otherwise in a moment."""


class WeightFile:
    """A .safetensors or torch file, or a diffusers folder's. `shapes` by key is known at once; `read` gives tensors.

    Keys are without trainers' wrappers (`state_dict`, `module.`), nested dictionaries flattened. ModelError says what
    is wrong with the file.
    """

    def __init__(self, path: Path | str):
        self.path = path = resolve(Path(path))
        self._torch: TorchFile | None = None
        if _is_torch(path):
            self._torch = self._guarded(lambda: TorchFile(path))
            if not isinstance(self._torch.content, dict):
                kind = type(self._torch.content).__name__
                raise ModelError(f"{path.name} holds a {kind}, not tensors by name", remedy=_DAMAGED)
            self._stored = unwrap(self._torch.content)
            self.shapes: dict[str, Shape] = {key: stored.shape for key, stored in self._stored.items()}
        else:
            self.shapes = self._safetensors(lambda file: {k: tuple(file.get_slice(k).get_shape()) for k in file.keys()})  # noqa: SIM118

    @property
    def is_torch(self) -> bool:
        return self._torch is not None

    def read(self, *prefixes: str) -> dict[str, Tensor]:
        """The tensors whose keys begin with one of `prefixes`, all without any: on the CPU, in the file's dtype, mapped
        into memory, so that the file must stay as it is while they are used."""
        return self.read_some([key for key in self.shapes if not prefixes or key.startswith(prefixes)])

    def read_some(self, keys: list[str]) -> dict[str, Tensor]:
        """`read` for these keys."""
        if (opened := self._torch) is None:
            return self._safetensors(lambda file: {key: file.get_tensor(key) for key in keys})
        found = self._guarded(lambda: {key: opened.tensor(self._stored[key]) for key in keys})
        self._guarded(opened.map_anew)  # pages of a mapped file stay in memory as long as it is mapped
        return found

    def _safetensors(self, read: Callable[[Any], T]) -> T:
        def opened() -> T:
            with safe_open(self.path, framework="pt") as file:
                return read(file)

        return self._guarded(opened)

    def _guarded(self, work: Callable[[], T]) -> T:
        """Whatever is wrong with the file, as a ModelError."""
        name = self.path.name
        try:
            return work()
        except NotWeights as error:
            raise ModelError(
                f"{name} holds pickled Python objects ({error.name}), which can run code when they are loaded",
                remedy="Get a .safetensors version of it; files of that kind hold nothing but tensors.") from error
        except (Damaged, SafetensorError, ValueError) as error:
            raise ModelError(f"{name} is truncated or damaged ({error})", remedy=_DAMAGED) from error
        except OSError as error:
            raise _unreadable(self.path, error) from error


def read_tensors(path: Path, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
    """Tensors by key, on the CPU. Those of real numbers become `dtype`, where it is given, a few at a time, so that
    only these are in memory in both. Of a torch file none needs the file any longer."""
    file = WeightFile(path)
    tensors = {} if file.is_torch else file.read()
    others = [key for key in file.shapes if file.is_torch or _to_convert(tensors[key], dtype)]
    for first in range(0, len(others), _CONVERTED_AT_ONCE):
        for key, tensor in file.read_some(others[first : first + _CONVERTED_AT_ONCE]).items():
            tensors[key] = tensor.to(dtype) if _to_convert(tensor, dtype) else tensor.clone()
    return tensors


def read_shapes(path: Path) -> dict[str, Shape]:
    """Shapes by key, without reading the weights."""
    return WeightFile(path).shapes


def read_config(path: Path) -> dict[str, Any]:
    """config.json of a diffusers folder (or beside its weights' file), {} where there is none."""
    config = (path if path.is_dir() else path.parent) / "config.json"
    try:
        found = json.loads(config.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and found.get("_class_name") == "MotionAdapter" else {}


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
        raise ModelError(f"{path} does not exist", remedy="Check the path.")
    return path


def _to_convert(tensor: Tensor, dtype: torch.dtype | None) -> bool:
    return dtype is not None and tensor.is_floating_point() and tensor.dtype != dtype


def _is_torch(path: Path) -> bool:
    """By content, not by suffix: files get renamed."""
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except OSError as error:
        raise _unreadable(path, error) from error
    if start[8:9] == b"{":  # first, as the length of a safetensors header may begin like a pickle
        return False
    if start.startswith(MAGIC):
        return True
    if not start:
        raise ModelError(f"{path.name} is empty", remedy=_DAMAGED)
    if start.startswith(b"version https://git-lfs"):
        raise ModelError(f"{path.name} is a Git LFS pointer, not the file itself",
                         remedy="Fetch it with `git lfs pull`, or download it.")
    if start.lstrip()[:1] == b"<":
        raise ModelError(f"{path.name} is a web page, not a model file", remedy="Use the page's download link.")
    raise ModelError(f"{path.name} is no model file, or damaged", remedy=_DAMAGED)


def _unreadable(path: Path, error: OSError) -> UnreadableError:
    return UnreadableError(f"{path.name} cannot be read ({error.strerror or error})",
                           remedy="Check that you may read it, and that its disk is there.")
