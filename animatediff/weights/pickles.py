"""torch's own files (.ckpt, .pth, .pt, .bin), read without running what they contain.

Such a file is a pickle: a program that names callables and calls them. Here every name stands for an object of this
module: rebuilding a tensor notes its place in the file, what training programs leave beside the weights becomes an
inert object, and any other name is an error. So nothing that a file says is imported or called.

Two formats: a zip archive since torch 1.6, `NAME/data.pkl` with `NAME/data/KEY` for each storage, and before that
pickles one after another with the storages behind them (torch/serialization.py, _save and _legacy_save).
"""
from __future__ import annotations

import mmap
import pickle
import struct
import sys
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

MAGIC = (b"PK", b"\x80")  # what the two formats begin with
_LEGACY_MAGIC, _LEGACY_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_DTYPES = {"Double": "float64", "Float": "float32", "Half": "float16", "BFloat16": "bfloat16", "Long": "int64",
           "Int": "int32", "Short": "int16", "Char": "int8", "Byte": "uint8", "Bool": "bool",
           "ComplexFloat": "complex64", "ComplexDouble": "complex128", "Untyped": "uint8"}
# Of packages whose objects lie beside the weights in checkpoints; none is imported.
_INERT = ("numpy", "_codecs", "pytorch_lightning", "lightning", "lightning_fabric", "omegaconf", "argparse", "datetime",
          "pathlib", "torch.optim", "torch.device")


class NotWeights(Exception):
    """The file's pickle names something that no weights need: `.name`."""

    def __init__(self, name: str):
        super().__init__(name)
        self.name = name


class Damaged(Exception):
    """The file is not whole, or not of a known format."""


@dataclass(frozen=True)
class _Storage:
    """Numbers in the file: `key` is the storage's name, `skipped` elements of it are left out at its beginning."""

    dtype: torch.dtype
    key: str
    skipped: int = 0

    def __setstate__(self, state: Any) -> None:
        raise Damaged("it changes a storage")


@dataclass(frozen=True)
class Stored:
    """A tensor in a file, not read yet."""

    storage: _Storage
    dtype: torch.dtype
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def __setstate__(self, state: Any) -> None:
        raise Damaged("it changes a tensor")


class TorchFile:
    """A torch file: `content` is what was saved, with Stored in place of tensors; `tensor` gives one of them.

    Raises NotWeights, Damaged or OSError.
    """

    def __init__(self, path: Path):
        self.path = path
        self.places: dict[str, tuple[int, int]] = {}  # storage key -> its bytes' place in the file, and number
        self.map_anew()
        with path.open("rb") as file:
            try:
                file.seek(0)
                self.content = self._of_zip(file) if file.read(2) == b"PK" else self._legacy(file)
            except (NotWeights, Damaged, OSError):
                raise
            except Exception as error:  # a damaged pickle may fail in any way
                raise Damaged(_first_line(error)) from error

    def map_anew(self) -> None:
        """Let go of the pages that have been read; tensors that were given keep theirs."""
        with self.path.open("rb") as file:
            self.bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)  # what writes to a tensor gets a copy

    def tensor(self, stored: Stored) -> Tensor:
        """A tensor of the file's own numbers, mapped into memory: its pages are read when they are used."""
        try:
            return self._tensor(stored)
        except (RuntimeError, ValueError, TypeError, OverflowError) as error:
            raise Damaged(_first_line(error)) from error

    def _tensor(self, stored: Stored) -> Tensor:
        size = stored.dtype.itemsize
        begin, length = self.places.get(stored.storage.key, (0, -1))
        begin, length = begin + stored.storage.skipped * size, length - stored.storage.skipped * size
        spans = (stride * (side - 1) for stride, side in zip(stored.stride, stored.shape))
        count = 0 if 0 in stored.shape else stored.offset + sum(spans) + 1
        if min(stored.offset, *stored.stride, *stored.shape, 0) < 0 or not 0 <= count * size <= length:
            raise Damaged("a tensor lies outside its storage")
        if not count:
            return torch.empty(stored.shape, dtype=stored.dtype)
        numbers = torch.frombuffer(self.bytes, dtype=stored.dtype, count=count, offset=begin)
        return numbers.as_strided(stored.shape, stored.stride, stored.offset)

    def _of_zip(self, file: BinaryIO) -> Any:
        with zipfile.ZipFile(file) as archive:
            entries = {entry.filename.partition("/")[2]: entry for entry in archive.infolist()}
            if "data.pkl" not in entries:
                raise Damaged("the archive holds no data.pkl")
            if "byteorder" in entries and archive.read(entries["byteorder"]).decode() != sys.byteorder:
                raise Damaged("its numbers are in the byte order of another machine")
            for name, entry in entries.items():
                if name.startswith("data/"):
                    self.places[name.removeprefix("data/")] = self._place(entry)
            self._place(entries["data.pkl"])
            with archive.open(entries["data.pkl"]) as pickled:
                return _Reader(pickled).load()

    def _place(self, entry: zipfile.ZipInfo) -> tuple[int, int]:
        """Behind the entry's own header, whose length the archive's table does not say."""
        if entry.compress_type != zipfile.ZIP_STORED:
            raise Damaged("its storages are compressed")
        name, extra = struct.unpack_from("<HH", self.bytes, entry.header_offset + 26)
        begin = entry.header_offset + 30 + name + extra
        if begin + entry.file_size > len(self.bytes):
            raise Damaged("a storage is cut off")
        return begin, entry.file_size

    def _legacy(self, file: BinaryIO) -> Any:
        file.seek(0)
        magic, protocol, _ = (_Reader(file).load() for _ in range(3))
        if (magic, protocol) != (_LEGACY_MAGIC, _LEGACY_PROTOCOL):
            raise Damaged("it is no file of torch")
        reader = _Reader(file)
        content = reader.load()
        for key in _Reader(file).load():
            begin = file.tell() + 8
            (count,) = struct.unpack_from("<q", self.bytes, begin - 8)
            length = count * reader.storages[key].dtype.itemsize
            if not 0 <= length <= len(self.bytes) - begin:
                raise Damaged("a storage is cut off")
            self.places[key] = begin, length
            file.seek(begin + length)
        return content


class _Inert:
    """Stands for an object that is not of interest: whatever is done to it has no effect."""

    def __init__(self, *args: Any, **kwargs: Any):
        pass

    def _nothing(self, *args: Any) -> _Inert:
        return self

    __call__ = __setitem__ = __setstate__ = append = extend = add = update = _nothing


class _Dictionary(dict):
    """In place of OrderedDict, whose attributes, such as a state dict's `_metadata`, are dropped."""

    def __setstate__(self, state: Any) -> None:
        pass


class _Function:
    """A callable that a pickle can call and not change."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[..., Any]):
        self.call = call

    def __call__(self, *args: Any) -> Any:
        return self.call(*args)

    def __setstate__(self, state: Any) -> None:
        raise Damaged("it changes a function")


def _stored(storage: _Storage, offset: int, shape: Any, stride: Any, dtype: torch.dtype | None = None) -> Stored:
    if not isinstance(storage, _Storage):
        raise Damaged("a tensor has no storage")
    return Stored(storage, dtype or storage.dtype, int(offset), tuple(map(int, shape)), tuple(map(int, stride)))


_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": lambda *args: _stored(*args[:4]),
    "torch._utils._rebuild_tensor_v2": lambda *args: _stored(*args[:4]),
    "torch._utils._rebuild_tensor_v3": lambda *args: _stored(*args[:4], dtype=args[6]),
    "torch._utils._rebuild_parameter": lambda data, *more: data,
    "torch._utils._rebuild_parameter_with_state": lambda data, *more: data,
    "torch._tensor._rebuild_from_type_v2": lambda call, kind, args, state: call(*args),
    "torch.Size": tuple,
    "torch.serialization._get_layout": lambda name: None,
    **{f"{module}.{name}": kind for module in ("builtins", "__builtin__")
       for name, kind in (("set", set), ("frozenset", frozenset), ("complex", complex))},
}


class _Reader(pickle.Unpickler):
    """`storages`: those that the pickle refers to, by key."""

    def __init__(self, file: Any):
        super().__init__(file, encoding="utf-8")
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full in _FUNCTIONS:
            return _Function(_FUNCTIONS[full])
        if full == "collections.OrderedDict":
            return type("OrderedDict", (_Dictionary,), {})  # a new one, as a pickle may write to a class
        kind = name.removesuffix("Storage")
        if module in ("torch", "torch.storage", "torch.cuda") and name.endswith("Storage") and kind in _DTYPES:
            return getattr(torch, _DTYPES[kind])
        if module == "torch" and isinstance(found := getattr(torch, name, None), torch.dtype):
            return found
        if any(f"{full}.".startswith(f"{package}.") for package in _INERT):
            return type(name, (_Inert,), {})
        raise NotWeights(full)

    def persistent_load(self, pid: Any) -> Any:
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage" or not isinstance(pid[1], torch.dtype):
            raise Damaged("it refers to something that is no storage")
        key, view = str(pid[2]), pid[5] if len(pid) > 5 else None
        storage = self.storages[key] = _Storage(pid[1], key)
        return _Storage(pid[1], key, int(view[1])) if view else storage


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
