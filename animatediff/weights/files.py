"""Open weight files and read their tensors by key. The format is detected from the content."""
from __future__ import annotations

from collections.abc import Iterable, Mapping
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
# Tensors of a torch file may share storage, so they can be larger in memory than the file: at most by this factor.
_MOST_GROWTH = 4
_ALWAYS_ALLOWED = 16 * 2**20  # bytes in memory that are allowed in addition
# Weight files of a folder in diffusers' layout, in order of preference.
_FOLDER_FILES = (
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.fp16.safetensors",
    "diffusion_pytorch_model.bin",
)


class WeightFile:
    """A .safetensors, torch or TorchScript file, or the weight file in a diffusers folder.

    Opening it reads `shapes` and `dtypes` by key; `read` and `tensors` return tensors. Wrappers of training code
    (`state_dict`, `module.`) are removed from keys, and nested dictionaries are flattened. Raises ModelError if the
    file cannot be used.
    """

    def __init__(self, path: Path | str):
        self.path = path = resolve(Path(path))
        self._torch: TorchFile | None = None
        self._stored: dict[str, Any] = {}
        self.titles: tuple[str, ...] = ()  # titles from the file's metadata
        with reading(path):
            if _is_torch(path):
                self._torch = opened = TorchFile(path)
                if not isinstance(opened.content, Mapping):
                    raise ModelError(f"{name_of(path)} holds a {type(opened.content).__name__}, not tensors by name",
                                     remedy=AGAIN)
                self._stored = unwrap(opened.content)
                if sum(map(opened.check, self._stored.values())) > _MOST_GROWTH * path.stat().st_size + _ALWAYS_ALLOWED:
                    raise Damaged("its tensors claim to be much larger than the file")
                found = {key: (stored.dtype, stored.shape) for key, stored in self._stored.items()}
            else:
                about = header.read(path)
                self.titles, found = about.titles, about.tensors
        self.dtypes: dict[str, torch.dtype] = {key: dtype for key, (dtype, _) in found.items()}
        self.shapes: dict[str, Shape] = {key: shape for key, (_, shape) in found.items()}

    @property
    def name(self) -> str:
        """The file's name for messages."""
        return name_of(self.path)

    def read(self, *prefixes: str) -> dict[str, Tensor]:
        """Return the tensors whose keys begin with one of `prefixes`, or all tensors if there are none.

        They are on the CPU, in the file's dtype and mapped into memory. The file must not change while they are used.
        """
        return self.read_some([key for key in self.shapes if not prefixes or key.startswith(prefixes)])

    def read_some(self, keys: Iterable[str]) -> dict[str, Tensor]:
        """Return the tensors of these keys; see `read`."""
        with reading(self.path):
            if (opened := self._torch) is None:
                with safe_open(self.path, framework="pt") as file:
                    return {key: file.get_tensor(key) for key in keys}
            found = {key: opened.tensor(self._stored[key]) for key in keys}
            opened.map_anew()  # frees the pages that were read
            return found

    def tensors(self, keys: Iterable[str] | None = None, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
        """Return the tensors of these keys, or all tensors.

        dtype: converts floating-point tensors, a few at a time, so that only these are in memory twice.

        Tensors of a torch file are copies that no longer need the file; of a .safetensors file only converted ones are.
        """
        keys = list(self.shapes if keys is None else keys)
        tensors = {} if self._torch else self.read_some(keys)
        others = [key for key in keys if self._torch or _to_convert(tensors[key], dtype)]
        for first in range(0, len(others), _CONVERTED_AT_ONCE):
            for key, tensor in self.read_some(others[first : first + _CONVERTED_AT_ONCE]).items():
                tensors[key] = tensor.to(dtype) if _to_convert(tensor, dtype) else tensor.clone()
        return tensors


def read_tensors(path: Path, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
    """Return all of a file's tensors by key, on the CPU; see `WeightFile.tensors`."""
    return WeightFile(path).tensors(dtype=dtype)


def read_shapes(path: Path) -> dict[str, Shape]:
    """Return the shapes by key, without reading the weights."""
    return WeightFile(path).shapes


def read_config(path: Path) -> dict[str, Any]:
    """Return the config.json of a MotionAdapter's folder, or beside a weight file; {} if there is none."""
    config = (path if path.is_dir() else path.parent) / "config.json"
    try:
        found = read_json(config)
    except ModelError:
        return {}
    return found if found.get("_class_name") == "MotionAdapter" else {}


def resolve(path: Path) -> Path:
    """Return the weight file: `path` itself, or the one in a diffusers folder. Raises ModelError if there is none."""
    with reading(path):
        if path.is_dir():
            for name in _FOLDER_FILES:
                if (path / name).is_file():
                    return path / name
            raise ModelError(f"the folder {end_of(printable(str(path)))} holds no {_FOLDER_FILES[0]}",
                             remedy="Name a motion module's file or a MotionAdapter folder.")
        if not path.is_file():
            what = "is no file" if path.exists() else "does not exist"
            raise ModelError(f"{end_of(printable(str(path)))} {what}", remedy="Check the path.")
        return path


def _to_convert(tensor: Tensor, dtype: torch.dtype | None) -> bool:
    return dtype is not None and tensor.is_floating_point() and tensor.dtype != dtype


def _is_torch(path: Path) -> bool:
    """Return whether this is a torch file (True) or a .safetensors file (False). Raises ModelError for other files.

    The content decides, not the suffix, since files get renamed.
    """
    name = name_of(path)
    with path.open("rb") as file:
        start = file.read(64)
    if header.looks_like_one(start, path.stat().st_size):  # first, since a header's length may look like a pickle
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
