"""Files of weights, told apart by content, and their tensors by key."""
from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from animatediff.errors import ModelError, end_of
from animatediff.weights import header
from animatediff.weights.boundary import AGAIN, Damaged, name_of, printable, read_json, reading
from animatediff.weights.naming import unwrap
from animatediff.weights.pickles import MAGIC, TorchFile

Shape = tuple[int, ...]
_CONVERTED_AT_ONCE = 32  # tensors
_CLAIMS = 4  # times its size may the tensors of a torch file take in memory, which may share numbers
_SMALL = 16 * 2**20  # bytes that they may always take
# What a folder in diffusers' layout keeps its weights in, in the order of preference.
_IN_FOLDER = (
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.fp16.safetensors",
    "diffusion_pytorch_model.bin",
)


class WeightFile:
    """A .safetensors or torch file, or a diffusers folder's. `shapes` and `dtypes` by key are known at once; `read`
    gives tensors.

    Keys are without trainers' wrappers (`state_dict`, `module.`), nested dictionaries flattened. ModelError says what
    is wrong with the file.
    """

    def __init__(self, path: Path | str):
        self.path = path = resolve(Path(path))
        self._torch: TorchFile | None = None
        self._stored: dict[str, Any] = {}
        self.titles: tuple[str, ...] = ()  # what its trainer called it, where the file says that
        with reading(path):
            if _is_torch(path):
                self._torch = opened = TorchFile(path)
                if not isinstance(opened.content, dict):
                    raise ModelError(f"{name_of(path)} holds a {type(opened.content).__name__}, not tensors by name",
                                     remedy=AGAIN)
                self._stored = unwrap(opened.content)
                if sum(map(opened.check, self._stored.values())) > _CLAIMS * path.stat().st_size + _SMALL:
                    raise Damaged("its tensors claim to be much larger than the file")
                found = {key: (stored.dtype, stored.shape) for key, stored in self._stored.items()}
            else:
                about = header.read(path)
                self.titles, found = about.titles, about.tensors
        self.dtypes: dict[str, torch.dtype] = {key: dtype for key, (dtype, _) in found.items()}
        self.shapes: dict[str, Shape] = {key: shape for key, (_, shape) in found.items()}

    @property
    def name(self) -> str:
        """As messages call it."""
        return name_of(self.path)

    def read(self, *prefixes: str) -> dict[str, Tensor]:
        """The tensors whose keys begin with one of `prefixes`, all without any: on the CPU, in the file's dtype, mapped
        into memory, so that the file must stay as it is while they are used."""
        return self.read_some([key for key in self.shapes if not prefixes or key.startswith(prefixes)])

    def read_some(self, keys: Iterable[str]) -> dict[str, Tensor]:
        """`read` for these keys."""
        with reading(self.path):
            if (opened := self._torch) is None:
                with safe_open(self.path, framework="pt") as file:
                    return {key: file.get_tensor(key) for key in keys}
            found = {key: opened.tensor(self._stored[key]) for key in keys}
            opened.map_anew()  # pages of a mapped file stay in memory as long as it is mapped
            return found

    def tensors(self, keys: Iterable[str] | None = None, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
        """These tensors, all by default. Those of real numbers become `dtype`, where it is given, a few at a time, so
        that only these are in memory in both. Of a torch file none needs the file any longer."""
        keys = list(self.shapes if keys is None else keys)
        tensors = {} if self._torch else self.read_some(keys)
        others = [key for key in keys if self._torch or _to_convert(tensors[key], dtype)]
        for first in range(0, len(others), _CONVERTED_AT_ONCE):
            for key, tensor in self.read_some(others[first : first + _CONVERTED_AT_ONCE]).items():
                tensors[key] = tensor.to(dtype) if _to_convert(tensor, dtype) else tensor.clone()
        return tensors


def read_tensors(path: Path, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
    """All of a file's tensors by key, on the CPU, as `WeightFile.tensors`."""
    return WeightFile(path).tensors(dtype=dtype)


def read_shapes(path: Path) -> dict[str, Shape]:
    """Shapes by key, without reading the weights."""
    return WeightFile(path).shapes


def read_config(path: Path) -> dict[str, Any]:
    """config.json of a MotionAdapter's folder (or beside its weights' file), {} where there is none."""
    config = (path if path.is_dir() else path.parent) / "config.json"
    try:
        found = read_json(config)
    except ModelError:
        return {}
    return found if found.get("_class_name") == "MotionAdapter" else {}


def resolve(path: Path) -> Path:
    """The weights' file: `path` itself, or the one inside a diffusers folder."""
    with reading(path):
        if path.is_dir():
            for name in _IN_FOLDER:
                if (path / name).is_file():
                    return path / name
            raise ModelError(f"the folder {end_of(printable(str(path)))} holds no {_IN_FOLDER[0]}",
                             remedy="Name a motion module's file or a MotionAdapter folder.")
        if not path.is_file():
            what = "is no file" if path.exists() else "does not exist"
            raise ModelError(f"{end_of(printable(str(path)))} {what}", remedy="Check the path.")
        return path


def _to_convert(tensor: Tensor, dtype: torch.dtype | None) -> bool:
    return dtype is not None and tensor.is_floating_point() and tensor.dtype != dtype


def _is_torch(path: Path) -> bool:
    """By content, not by suffix: files get renamed."""
    name = name_of(path)
    with path.open("rb") as file:
        start = file.read(64)
    if header.looks_like_one(start, path.stat().st_size):  # first, as a header's length may begin like a pickle
        return False
    if start.startswith(MAGIC):
        return True
    if not start:
        raise ModelError(f"{name} is empty", remedy=AGAIN)
    if start.startswith(b"version https://git-lfs"):
        raise ModelError(f"{name} is a Git LFS pointer, not the file itself",
                         remedy="Fetch it with `git lfs pull`, or download it.")
    if start.lstrip()[:1] == b"<":
        raise ModelError(f"{name} is a web page, not a model file", remedy="Use the page's download link.")
    raise ModelError(f"{name} is not a model file, or is damaged", remedy=AGAIN)
