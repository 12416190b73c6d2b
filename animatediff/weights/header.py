"""Read and check the header of a safetensors file, before any tensor is read.

Format: 8 bytes with the header's length, a JSON object, then the numbers
(https://github.com/huggingface/safetensors#format). Every size in the header is compared with the file's size.
"""
from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from animatediff.weights.boundary import LONGEST_NAME, MOST_DIMENSIONS, MOST_TENSORS, Damaged, one_line

LONGEST = 32 * 2**20  # bytes; enough for MOST_TENSORS and the metadata of training code
_TITLES = ("modelspec.title", "ss_output_name", "title", "name")  # metadata keys of trainers and Stability's ModelSpec
DTYPES: Mapping[str, torch.dtype] = {
    name: getattr(torch, kind) for name, kind in {
        "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn",
        "F8_E5M2": "float8_e5m2", "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8",
        "U16": "uint16", "U32": "uint32", "U64": "uint64", "BOOL": "bool", "C64": "complex64"}.items()
    if hasattr(torch, kind)}


def looks_like_one(start: bytes, size: int) -> bool:
    """Return whether a file of `size` bytes that begins with `start` is a safetensors file, complete or not."""
    return start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 2**40 and size > 8


@dataclass(frozen=True)
class Header:
    """The header of a safetensors file."""

    tensors: Mapping[str, tuple[torch.dtype, tuple[int, ...]]]  # dtype and shape by key
    titles: tuple[str, ...] = ()  # titles in the metadata


def read(path: Path) -> Header:
    """Return the header of a file. Raises Damaged if it is invalid or does not fit the file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > size - 8:
            raise Damaged("its header is cut off")
        if length > LONGEST:
            raise Damaged(f"its header is longer than {LONGEST >> 20} MiB")
        try:
            header = json.loads(file.read(length))
        except (ValueError, RecursionError) as error:
            raise Damaged("its header is not valid JSON") from error
    if not isinstance(header, dict):
        raise Damaged("its header is not a JSON object")
    about = header.pop("__metadata__", None)
    if len(header) > MOST_TENSORS:
        raise Damaged(f"its header lists {len(header)} tensors")
    titles = [about.get(key) for key in _TITLES] if isinstance(about, dict) else []
    tensors = {name: _checked(name, entry, size - 8 - length) for name, entry in header.items()}
    _check_spans(header, size - 8 - length)
    return Header(tensors, tuple(title[:LONGEST_NAME] for title in titles if isinstance(title, str)))


def _checked(name: str, entry: Any, available: int) -> tuple[torch.dtype, tuple[int, ...]]:
    if len(name) > LONGEST_NAME:
        raise Damaged(f"a tensor's name has {len(name)} characters")
    entry = entry if isinstance(entry, dict) else {}
    kind, shape, span = entry.get("dtype"), _numbers(entry.get("shape")), _numbers(entry.get("data_offsets"))
    if shape is None or span is None or len(span) != 2 or len(shape) > MOST_DIMENSIONS:
        raise Damaged(f"its header has no valid entry for {one_line(name)}")
    if not isinstance(kind, str) or kind not in DTYPES:
        raise Damaged(f"{one_line(name)} is in an unknown number format, {one_line(kind)}")
    begin, end = span
    if not 0 <= begin <= end <= available:
        raise Damaged(f"{one_line(name)} extends beyond the end of the file")
    if math.prod(shape) * DTYPES[kind].itemsize != end - begin:
        raise Damaged(f"the size of {one_line(name)} does not match its shape")
    return DTYPES[kind], shape


def _check_spans(header: Mapping[str, Any], available: int) -> None:
    """Raise Damaged unless the tensors follow each other without gaps, up to the file's end."""
    end = 0
    for begin, following in sorted(entry["data_offsets"] for entry in header.values()):
        if begin != end:
            raise Damaged("its tensors overlap, or leave a gap")
        end = following
    if end != available:
        raise Damaged("it is longer than its header says")


def _numbers(values: Any) -> tuple[int, ...] | None:
    are_some = isinstance(values, list) and all(type(value) is int and 0 <= value < 2**63 for value in values)
    return tuple(values) if are_some else None
