"""Read torch's own files (.ckpt, .pth, .pt, .bin) without running code that they contain.

There are two formats (torch/serialization.py, _save and _legacy_save). Since torch 1.6 a file is a zip archive with
`NAME/data.pkl` and `NAME/data/KEY` for each storage. Older files are a sequence of pickles, followed by the storages.
"""
from __future__ import annotations

import mmap
import struct
import sys
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from animatediff.weights.boundary import Damaged
from animatediff.weights.unpickler import Reader, Source, Stored

MAGIC = (b"PK", b"\x80")  # first bytes of the two formats
_LEGACY_MAGIC, _LEGACY_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_LONGEST_TABLE = 32 * 2**20  # bytes of an archive's list of its entries


class TorchFile:
    """A torch file. `content` is the saved object, with Stored in place of tensors; `tensor` reads one of them.

    Raises NotWeights, Quantised or Damaged. A damaged pickle may raise any other exception too.
    """

    def __init__(self, path: Path):
        self.path = path
        self.places: dict[str, tuple[int, int]] = {}  # storage key -> first byte in the file, number of bytes
        self.map_anew()
        self.content = self._read_zip() if self.bytes[:2] == b"PK" else self._read_legacy()

    def map_anew(self) -> None:
        """Map the file again, which frees the pages that were read. Tensors returned before keep their own mapping."""
        with self.path.open("rb") as file:
            self.bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)  # writes to tensors never reach the file

    def check(self, stored: Stored) -> int:
        """Return the number of bytes that the tensor takes in memory. Raises Damaged if it lies outside its storage."""
        self._span(stored)
        size = stored.dtype.itemsize
        for side in stored.shape:
            size *= side
        return size

    def tensor(self, stored: Stored) -> Tensor:
        """Return a tensor that is mapped into memory: its pages are read from the file when they are used."""
        begin, count = self._span(stored)
        if not count:
            return torch.empty(stored.shape, dtype=stored.dtype)
        numbers = torch.frombuffer(self.bytes, dtype=stored.dtype, count=count, offset=begin)
        return numbers.as_strided(stored.shape, stored.stride, stored.offset)

    def _span(self, stored: Stored) -> tuple[int, int]:
        """Return the first byte of the tensor's storage in the file, and how many of its elements the tensor spans."""
        size = stored.dtype.itemsize
        begin, length = self.places.get(stored.storage.key, (0, -1))
        begin, length = begin + stored.storage.skipped * size, length - stored.storage.skipped * size
        spans = (stride * (side - 1) for stride, side in zip(stored.stride, stored.shape))
        count = 0 if 0 in stored.shape else stored.offset + sum(spans) + 1
        if length < 0 or count * size > length:
            raise Damaged("a tensor lies outside its storage")
        return begin, count

    def _read_zip(self) -> Any:
        with self.path.open("rb") as file, zipfile.ZipFile(_BoundedFile(file)) as archive:
            entries = {entry.filename.partition("/")[2]: entry for entry in archive.infolist()}
        if "data.pkl" not in entries:
            raise Damaged("the archive holds no data.pkl")
        if "byteorder" in entries and self._byte_order(entries["byteorder"]) != sys.byteorder:
            raise Damaged("its numbers are in the byte order of another machine")
        for name, entry in entries.items():
            if name.startswith("data/"):
                self.places[name.removeprefix("data/")] = self._entry_bytes(entry)
        begin, length = self._entry_bytes(entries["data.pkl"])
        return Reader(Source(self.bytes, begin, begin + length)).load()

    def _byte_order(self, entry: zipfile.ZipInfo) -> str:
        begin, length = self._entry_bytes(entry)
        return self.bytes[begin : begin + min(length, 16)].decode("ascii", "replace")

    def _entry_bytes(self, entry: zipfile.ZipInfo) -> tuple[int, int]:
        """Return the first byte and the number of bytes of an entry's data.

        The data follows the entry's own header, whose length is not in the archive's table.
        """
        if entry.compress_type != zipfile.ZIP_STORED:
            raise Damaged("its entries are compressed, which torch never does")
        if not 0 <= entry.header_offset <= len(self.bytes) - 30:
            raise Damaged("an entry is cut off")
        name, extra = struct.unpack_from("<HH", self.bytes, entry.header_offset + 26)
        begin = entry.header_offset + 30 + name + extra
        if begin + entry.file_size > len(self.bytes):
            raise Damaged("a storage is cut off")
        return begin, entry.file_size

    def _read_legacy(self) -> Any:
        source = Source(self.bytes, 0)
        magic, protocol, _ = (Reader(source).load() for _ in range(3))
        if (magic, protocol) != (_LEGACY_MAGIC, _LEGACY_PROTOCOL):
            raise Damaged("it is not a torch file")
        reader = Reader(source)
        content, keys = reader.load(), Reader(source).load()
        if not isinstance(keys, list):
            raise Damaged("it does not list its storages")
        at = source.at
        for key in keys:
            if not isinstance(key, str) or key not in reader.storages or key in self.places:
                raise Damaged("it lists an unused storage, or the same storage twice")
            begin = at + 8
            if begin > len(self.bytes):
                raise Damaged("a storage is cut off")
            (count,) = struct.unpack_from("<q", self.bytes, at)
            length = count * reader.storages[key].dtype.itemsize
            if not 0 <= length <= len(self.bytes) - begin:
                raise Damaged("a storage is cut off")
            self.places[key] = begin, length
            at = begin + length
        return content


class _BoundedFile:
    """A file for zipfile that limits the size of a read, since zipfile reads the list of entries in one go."""

    def __init__(self, file: BinaryIO):
        self.file, self.seek, self.tell, self.close = file, file.seek, file.tell, file.close

    def seekable(self) -> bool:
        return True

    def read(self, count: int = -1) -> bytes:
        if count > _LONGEST_TABLE:
            raise Damaged("its list of entries is too long for a model file")
        return self.file.read(count)
