"""Hostile and damaged model files. Each would crash, hang or exhaust the memory of a careless reader."""
from __future__ import annotations

import collections
import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch

SITE = "down_blocks.0.motion_modules.0.temporal_transformer."
PE = f"{SITE}transformer_blocks.0.attention_blocks.0.pos_encoder.pe"


def safetensors(entries: dict, data: bytes = b"", length: int | None = None) -> bytes:
    """Return a safetensors file with this header, valid or not. length: the header's claimed length in bytes."""
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def header(size: int = 4, /, **tensors: tuple) -> bytes:
    """Return a safetensors file with `size` bytes of data. tensors: dtype, shape and data offsets of each."""
    return safetensors({name: dict(dtype=kind, shape=shape, data_offsets=span)
                        for name, (kind, shape, span) in tensors.items()}, bytes(size))


def zipped(pickled: bytes, compression: int = zipfile.ZIP_STORED, **more: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("x/data.pkl", pickled)
        for name, content in more.items():
            archive.writestr(f"x/{name}", content)
    return file.getvalue()


def saved(content: object, legacy: bool = False) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=not legacy)
    return file.getvalue()


def self_containing(*names: str) -> dict:
    """A dictionary that holds itself under these names."""
    outer = inner = {}
    for name in names[:-1]:
        inner[name] = inner = {}
    inner[names[-1]] = outer
    return outer


def doubled(depth: int) -> dict:
    """Return nested dictionaries with 2**depth tensors that take only a few KB in a file."""
    content: dict = {"t": torch.ones(1)}
    for _ in range(depth):
        content = {"a": content, "b": content}
    return content


class Call:
    """An object that is pickled as a call of a function."""

    def __init__(self, function: Callable, *arguments: object):
        self.how = function, arguments

    def __reduce__(self) -> tuple:
        return self.how


def claimed(shape: tuple, stride: tuple, offset: object = 0) -> Call:
    """Return a tensor of one number that claims to have this shape."""
    typed = torch.storage.TypedStorage(wrap_storage=torch.ones(1).untyped_storage(), dtype=torch.float32,
                                       _internal=True)
    return Call(torch._utils._rebuild_tensor_v2, typed, offset, shape, stride, False, collections.OrderedDict())


NESTED = b"\x80\x02" + b")" + b"\x85" * 60_000  # tuples nested so deeply that hashing them crashes
OPCODES = {
    "memo of 2 billion": b"\x80\x02}r\xff\xff\xff\x7f.",
    "bytes of 8 EiB": b"\x80\x04\x8e" + struct.pack("<Q", 2**63 - 1) + b".",
    "byte array of 1 TiB": b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b".",
    "frame of 8 EiB": b"\x80\x04\x95" + struct.pack("<Q", 2**63 - 1) + b"}.",
    "text of 4 GiB": b"\x80\x02X" + struct.pack("<I", 2**32 - 1) + b".",
    "nested key": NESTED.replace(b")", b"})", 1) + b"K\x01s.",
    "nested in a set": NESTED.replace(b")", b"\x8f()", 1) + b"\x90.",
    "names without end": b"\x80\x02(" + b"".join(b"cnumpy\na%d\n" % i for i in range(2_000)) + b"l.",
    "storages named by lists": b"\x80\x02]q\x00" + b"(" + b"K\x01" * 20_000 + b"e0" + b"(" + b"".join(
        b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nh\x00K\x01K\x01tQ" for _ in range(50)) + b"t.",
    "dictionaries of lists": b"\x80\x02]q\x00(" + b"K\x01K\x02\x86" * 20_000 + b"e0(" + b"ccollections\nOrderedDict\nh"
                             b"\x00\x85R" * 5_000 + b"l.",
    "shapes of lists": b"\x80\x02(" + b"K\x01" * 20_000 + b"tq\x000(" + b"ctorch._utils\n_rebuild_tensor\n(NK\x00h\x00h"
                       b"\x00tR" * 2_000 + b"l.",
    "extension": b"\x80\x02\x82\x01.", "nothing": b"\x80\x02.", "no end": b"\x80\x02}",
    "text without end": b"\x80\x02S'a",
}  # fmt: skip


def torchscript(attribute: bytes, **more: bytes) -> bytes:
    """Return a TorchScript archive of a module whose attribute `a` is made by these opcodes."""
    module = b"\x80\x02c__torch__.M\nM\nq\x01)\x81q\x00}(X\x01\x00\x00\x00a" + attribute + b"ub."
    return zipped(module, **{"code/__torch__.py": b"class M(Module):\n", "constants.pkl": b"\x80\x02).", **more})


FILES: dict[str, Callable[[], bytes]] = {
    # safetensors
    "pe of one dimension": lambda: safetensors({PE: dict(dtype="F32", shape=[4], data_offsets=[0, 16])}, bytes(16)),
    "pe of no dimension": lambda: safetensors({PE: dict(dtype="F32", shape=[], data_offsets=[0, 4])}, bytes(4)),
    "norm of no dimension": lambda: safetensors(
        {f"{SITE}norm.weight": dict(dtype="F32", shape=[], data_offsets=[0, 4])}, bytes(4)),
    "pe of 200000 frames, none of them there": lambda: safetensors({
        PE.replace("down_blocks.0", f"down_blocks.{level}"): dict(dtype="F32", shape=[0, 200_000, 320],
                                                                  data_offsets=[0, 0])
        for level in range(4)} | {f"down_blocks.{level}.motion_modules.0.temporal_transformer.norm.weight": dict(
            dtype="F32", shape=[320], data_offsets=[0, 1280]) for level in range(4)}, bytes(1280)),
    "channels without number": lambda: safetensors({
        f"down_blocks.{level}.motion_modules.0.temporal_transformer.norm.weight": dict(
            dtype="F32", shape=[0, 2**40], data_offsets=[0, 0]) for level in range(4)}),
    "header of 8 EiB": lambda: safetensors({}, bytes(100), 2**39),
    "header longer than the file": lambda: safetensors({}, b"", 2**20),
    "header of 0 bytes": lambda: struct.pack("<Q", 0) + b"{}",
    "header of lists": lambda: struct.pack("<Q", 2) + b"{]",
    "deep header": lambda: struct.pack("<Q", 200_005) + b'{"a":' + b"[" * 100_000 + b"]" * 100_000,
    "negative shape": lambda: header(a=("F32", [-1], [0, 4])),
    "shape of text": lambda: header(a=("F32", "ab", [0, 4])),
    "shape of truths": lambda: header(a=("F32", [True], [0, 4])),
    "many dimensions": lambda: header(a=("F32", [1] * 5000, [0, 4])),
    "huge product": lambda: header(a=("F32", [2**62] * 16, [0, 4])),
    "span backwards": lambda: header(a=("F32", [1], [8, 4])),
    "span behind the end": lambda: header(a=("F32", [2**40], [0, 2**42])),
    "unknown number format": lambda: header(a=("F7", [1], [0, 4])),
    "number format of lists": lambda: header(a=([], [1], [0, 4])),
    "spans that overlap": lambda: header(12, a=("F32", [2], [0, 8]), b=("F32", [2], [4, 12])),
    "a gap between spans": lambda: header(20, a=("F32", [2], [0, 8]), b=("F32", [2], [12, 20])),
    "more than the header says": lambda: header(9, a=("F32", [2], [0, 8])),
    "entry of text": lambda: safetensors({"a": "b"}),
    "name of 100000 letters": lambda: header(**{"a" * 100_000: ("F32", [1], [0, 4])}),
    "50001 tensors": lambda: header(**{f"t{i}": ("F32", [0], [0, 0]) for i in range(50_001)}),
    # torch
    "itself as state dict": lambda: saved(self_containing("state_dict")),
    "itself as module, old format": lambda: saved(self_containing("module"), legacy=True),
    "itself further in": lambda: saved(self_containing("a", "state_dict", "b")),
    "dictionaries 3000 deep": lambda: zipped(b"\x80\x02" + b"}X\x01\x00\x00\x00a" * 3000 + b"}" + b"s" * 3000 + b"."),
    "2 to the 60 tensors": lambda: saved(doubled(60)),
    "2 to the 12 tensors": lambda: saved({"a": doubled(12), "b": {str(i): doubled(12) for i in range(30)}}),
    "a petabyte of one number": lambda: saved({"a": claimed((2**48,), (0,))}),
    "80 MB of one number, 1000 times": lambda: saved({f"t{i}": claimed((20 * 2**20,), (0,)) for i in range(1000)}),
    "shape of text, torch": lambda: saved({"a": claimed(("a",), ("b",))}),
    "shape beyond int64": lambda: saved({"a": claimed((2**200,), (0,))}),
    "offset of a list": lambda: saved({"a": claimed((1,), (1,), [1])}),
    "shape without strides": lambda: saved({"a": claimed((1, 1), ())}),
    "tensor on the meta device": lambda: saved({"a": torch.ones(2, device="meta")}),
    "sparse tensor": lambda: saved({"a": torch.eye(3).to_sparse()}),
    "a tensor alone": lambda: saved(torch.ones(2)), "a list": lambda: saved([torch.ones(2)]),
    "text": lambda: saved("hello"), "a number, old format": lambda: saved(3, legacy=True),
    "TorchScript that calls the system": lambda: torchscript(b"cos\nsystem\n(X\x07\x00\x00\x00touch xtR"),
    "TorchScript with torch's own objects": lambda: torchscript(b"c__torch__.torch.classes.a\nB\n)\x81"),
    "TorchScript that holds itself": lambda: torchscript(b"h\x00"),
    "TorchScript without attributes": lambda: torchscript(b"h\x01)\x81]b"),
    "TorchScript that changes its class": lambda: torchscript(b"h\x01}b"),
    "TorchScript without an instance": lambda: torchscript(b"h\x01(K\x01tR"),
    "TorchScript with numbers that are not there": lambda: torchscript(
        b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X"
        b"\x03\x00\x00\x00cpuK\x01tQK\x00(K\x01t(K\x01t\x89NtR"),
    "deflated pickle of 1 GiB": lambda: zipped(b"\x80\x02" + bytes(2**26), zipfile.ZIP_DEFLATED),
    "deflated byte order": lambda: zipped(pickle.dumps({}, 2), zipfile.ZIP_DEFLATED, byteorder=b"little" * 2**22),
    "archive of nothing": lambda: b"PK\x05\x06" + bytes(18),
    "archive with a list of 4 GiB": lambda: zipped(b"")[:-10] + struct.pack("<IIH", 2**32 - 1, 0, 0),
    "archive without a pickle": lambda: zipped(b"").replace(b"data.pkl", b"data.pkm"),
    "old format, then nothing": lambda: saved({}, legacy=True)[:-20],
    **{f"{name}, in a zip": lambda code=code: zipped(code) for name, code in OPCODES.items()},
    **{f"{name}, bare": lambda code=code: code for name, code in OPCODES.items()},
}  # fmt: skip


def write(folder: Path) -> dict[str, Path]:
    """Write all FILES into a folder and return their paths by name."""
    paths = {}
    for number, (name, make) in enumerate(FILES.items()):
        content = make()
        paths[name] = folder / f"bad{number}{'.safetensors' if content[8:9] == b'{' else '.ckpt'}"
        paths[name].write_bytes(content)
    return paths
