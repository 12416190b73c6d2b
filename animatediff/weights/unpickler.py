"""Read pickles without running code from them.

A pickle is a program that names callables and calls them. Here every name maps to an object of this module. Rebuilding
a tensor records its place in the file. Objects that training programs save beside the weights become inert. Modules of
TorchScript become mappings of their attributes. Any other name is an error. So nothing in a file is imported or called.

Python's unpickler in C trusts the sizes in a pickle, so a hostile one can exhaust memory or crash it. This module uses
the unpickler in Python, with a source that returns no more bytes than the file has. torch's weights_only reader works
in the same way (torch/_weights_only_unpickler.py).
"""
from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from mmap import mmap
from types import MappingProxyType
from typing import Any, ClassVar

import torch

from animatediff.weights.boundary import MOST_DIMENSIONS, MOST_TENSORS, Damaged, NotWeights, Quantised, one_line

LONGEST = 16 * 2**20  # bytes of a pickle; one of a thousand tensors has about 200 KiB
MOST_NAMES = 1_000  # different names of objects in a pickle
_DTYPES = {"Double": "float64", "Float": "float32", "Half": "float16", "BFloat16": "bfloat16", "Long": "int64",
           "Int": "int32", "Short": "int16", "Char": "int8", "Byte": "uint8", "Bool": "bool",
           "ComplexFloat": "complex64", "ComplexDouble": "complex128", "Untyped": "uint8"}
# Packages and types of objects that checkpoints contain beside the weights. None is imported.
_INERT = ("numpy", "_codecs", "pytorch_lightning", "lightning", "lightning_fabric", "omegaconf", "argparse", "datetime",
          "pathlib", "torch.optim", "torch.device", "torch.Size",
          *(f"{module}.{name}" for module in ("builtins", "__builtin__") for name in ("set", "frozenset", "complex")))
# Names of classes that a TorchScript archive defines, and of those that torch's own C++ code defines.
_SCRIPT, _BUILT_IN = "__torch__.", "__torch__.torch.classes."
_QUANTISED = ("torch._utils._rebuild_qtensor", f"{_BUILT_IN}quantized.")


@dataclass(frozen=True)
class Storage:
    """A storage in the file."""

    dtype: torch.dtype
    key: str  # name of the storage
    skipped: int = 0  # number of elements at its start that do not belong to this view

    def __setstate__(self, state: Any) -> None:
        raise Damaged("it changes a storage")


@dataclass(frozen=True)
class Stored:
    """A tensor in the file that has not been read yet."""

    storage: Storage
    dtype: torch.dtype
    offset: int  # in elements, like the strides
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def __setstate__(self, state: Any) -> None:
        raise Damaged("it changes a tensor")


class Source:
    """The bytes of a mapped file from `at` to `end`, at most LONGEST of them."""

    def __init__(self, data: mmap, at: int, end: int | None = None):
        self.data, self.at, self.end = data, at, min(len(data) if end is None else end, at + LONGEST)

    def read(self, count: int) -> bytes:
        if count > self.end - self.at:
            raise Damaged("its pickle is cut off or too long")
        begin, self.at = self.at, self.at + count
        return self.data[begin : self.at]

    def readline(self) -> bytes:
        end = self.data.find(b"\n", self.at, self.end)
        return self.read((self.end if end < 0 else end + 1) - self.at)


class Reader(pickle._Unpickler):  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue]
    """The unpickler. After `load`, `storages` has the storages that the pickle refers to, by key."""

    dispatch: ClassVar[dict[int, Callable[..., None]]] = dict(pickle._Unpickler.dispatch)  # pyright: ignore
    stack: list[Any]
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]

    def __init__(self, source: Source):
        super().__init__(source, encoding="utf-8", errors="replace")
        self.storages: dict[str, Storage] = {}
        self.names: dict[str, Any] = {}
        self.copied = 0  # entries copied into dictionaries; a pickle may copy the same list many times

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full not in self.names:
            if len(self.names) >= MOST_NAMES:
                raise Damaged("it names too many objects for a model file")
            self.names[full] = self._resolved(module, name, full)
        return self.names[full]

    def _resolved(self, module: str, name: str, full: str) -> Any:
        if full in _FUNCTIONS:
            return _Function(_FUNCTIONS[full])
        if full == "collections.OrderedDict":
            return _Function(self._ordered)
        kind = name.removesuffix("Storage")
        if module in ("torch", "torch.storage", "torch.cuda") and name.endswith("Storage") and kind in _DTYPES:
            return getattr(torch, _DTYPES[kind])
        if module == "torch" and isinstance(found := getattr(torch, name, None), torch.dtype):
            return found
        if full.startswith(_QUANTISED):
            raise Quantised
        if full.startswith(_SCRIPT) and not full.startswith(_BUILT_IN):
            return ScriptModule
        if any(f"{full}.".startswith(f"{package}.") for package in _INERT):
            return type(name, (_Inert,), {})  # a new class for each name, since a pickle may write to it
        if full.startswith(("torch._utils._rebuild", "torch._tensor._rebuild")):
            raise Damaged(f"it holds tensors without numbers or of an unusual kind ({one_line(name)})")
        raise NotWeights(full)

    def persistent_load(self, pid: Any) -> Any:
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage" or not isinstance(pid[1], torch.dtype) \
                or not isinstance(pid[2], (str, int)):
            raise Damaged("it refers to an invalid storage")
        key, view = str(pid[2]), pid[5] if len(pid) > 5 else None
        storage = self.storages[key] = Storage(pid[1], key)
        return Storage(pid[1], key, _count(view[1])) if view else storage

    def _ordered(self, items: Any = ()) -> Any:
        """Return a dictionary in place of an OrderedDict; its attributes, such as `_metadata`, are dropped."""
        self.copied += len(items)
        if self.copied > MOST_TENSORS:
            raise Damaged("it has too many entries for a model file")
        return _put(_Dictionary(), items)

    # Safe replacements of Python's handlers for dictionary keys, sets and claimed sizes.

    def _setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        _put(self.stack[-1], ((key, value),))

    def _setitems(self) -> None:
        items = self.pop_mark()
        _put(self.stack[-1], zip(items[::2], items[1::2]))

    def _dict(self) -> None:
        items = self.pop_mark()
        self.append(_put({}, zip(items[::2], items[1::2])))

    def _empty_set(self) -> None:
        self.append(_Inert())

    def _frozenset(self) -> None:
        self.pop_mark()
        self.append(_Inert())

    def _refused(self) -> None:
        raise Damaged("its pickle has an instruction that torch files never have")

    dispatch |= {pickle.SETITEM[0]: _setitem, pickle.SETITEMS[0]: _setitems, pickle.DICT[0]: _dict,
                 pickle.EMPTY_SET[0]: _empty_set, pickle.FROZENSET[0]: _frozenset}
    dispatch |= dict.fromkeys(pickle.EXT1 + pickle.EXT2 + pickle.EXT4 + pickle.BYTEARRAY8 + pickle.NEXT_BUFFER
                              + pickle.READONLY_BUFFER, _refused)


class _Inert:
    """A placeholder for an object that is not needed. Calls and assignments have no effect."""

    def __init__(self, *args: Any, **kwargs: Any):
        pass

    def _nothing(self, *args: Any) -> _Inert:
        return self

    __call__ = __setitem__ = __setstate__ = append = extend = add = update = _nothing


class _Dictionary(dict):
    def __setstate__(self, state: Any) -> None:
        pass


class ScriptModule(Mapping[str, Any]):
    """An object of a TorchScript archive: its attributes by name."""

    _attributes: Mapping[str, Any] = MappingProxyType({})  # a pickle makes objects without calling __init__

    def __setstate__(self, state: Any) -> None:
        if type(state) is not dict:
            raise Damaged("an object in it has no attributes")
        self._attributes = state

    def __getitem__(self, name: str) -> Any:
        return self._attributes[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._attributes)

    def __len__(self) -> int:
        return len(self._attributes)


class _Function:
    """A callable that a pickle can call but not change."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[..., Any]):
        self.call = call

    def __call__(self, *args: Any) -> Any:
        return self.call(*args)

    def __setstate__(self, state: Any) -> None:
        raise Damaged("it changes a function")


def _put(target: Any, items: Iterable[Any]) -> Any:
    """Add entries to `target` and return it. Other keys than text and numbers are dropped: hashing them may crash."""
    for key, value in items:
        if isinstance(key, (str, int, float)):
            target[key] = value
    return target


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**63:
        raise Damaged("a tensor has an invalid shape or offset")
    return value


def _counts(values: Any) -> tuple[int, ...]:
    if not isinstance(values, (tuple, list)) or len(values) > MOST_DIMENSIONS:
        raise Damaged("a tensor has an invalid shape")
    return tuple(map(_count, values))


def _stored(storage: Any, offset: Any, shape: Any, stride: Any, dtype: Any = None) -> Stored:
    if not isinstance(storage, Storage):
        raise Damaged("a tensor has no storage")
    found = Stored(storage, storage.dtype if dtype is None else dtype, _count(offset), _counts(shape), _counts(stride))
    if not isinstance(found.dtype, torch.dtype) or len(found.shape) != len(found.stride):
        raise Damaged("a tensor has an invalid shape or number format")
    return found


def _meta_tensor(*args: Any) -> Any:
    raise Damaged("its tensors were saved without values, on torch's meta device")


_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": lambda *args: _stored(*args[:4]),
    "torch._utils._rebuild_tensor_v2": lambda *args: _stored(*args[:4]),
    "torch._utils._rebuild_tensor_v3": lambda *args: _stored(*args[:4], dtype=args[6]),
    "torch._utils._rebuild_meta_tensor_no_storage": _meta_tensor,
    "torch._utils._rebuild_parameter": lambda data, *more: data,
    "torch._utils._rebuild_parameter_with_state": lambda data, *more: data,
    "torch._tensor._rebuild_from_type_v2": lambda call, kind, args, state: call(*args),
    "torch.serialization._get_layout": lambda name: None,
    **{f"torch.jit._pickle.{name}": lambda values, *types: values for name in (
        "build_intlist", "build_doublelist", "build_boollist", "build_tensorlist", "restore_type_tag")},
}
