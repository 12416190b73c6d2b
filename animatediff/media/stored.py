"""Pictures of one size in a temporary file, because the frames of a long video do not fit into memory."""
from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

import numpy as np

from animatediff.errors import MediaError

IN_MEMORY = 2**22  # bytes that are kept in memory; more go into a file


class StoredPictures(Sequence[np.ndarray]):
    """A sequence of pictures, uint8 [h w 3] or [h w]. They are read from a file, which is deleted with the object."""

    def __init__(self, pictures: Iterable[np.ndarray] = ()):
        """Store pictures, all in the size of the first. Raises MediaError if the disk is full."""
        self._file = tempfile.SpooledTemporaryFile(IN_MEMORY, prefix="animatediff")  # noqa: SIM115
        self._count, self._picture = 0, ()
        self._digest = hashlib.sha256()
        for picture in pictures:
            self.add(picture)

    def add(self, picture: np.ndarray) -> None:
        """Store one more picture. Raises MediaError if the disk is full."""
        data = np.ascontiguousarray(picture, np.uint8)
        self._picture = data.shape
        self._digest.update(data.data)
        try:
            self._file.seek(0, 2)
            self._file.write(data.data)
        except OSError as error:
            raise MediaError(f"{self._count} pictures were read, and no more could be stored "
                             f"({error.strerror or error})", where=tempfile.gettempdir(),
                             remedy="Free the disk, or ask for fewer frames") from error
        self._count += 1

    @property
    def sha256(self) -> str:
        """Return the digest of all pixels."""
        return self._digest.hexdigest()

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of all pictures as one array: [f h w 3] or [f h w]."""
        return (self._count, *self._picture)

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, index: slice) -> list[np.ndarray]: ...
    def __getitem__(self, index: int | slice) -> np.ndarray | list[np.ndarray]:
        numbers = range(self._count)[index]
        return self._read(numbers) if isinstance(numbers, int) else list(map(self._read, numbers))

    def __iter__(self) -> Iterator[np.ndarray]:
        return map(self._read, range(self._count))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Return all pictures as one array."""
        return np.stack(list(self)).astype(dtype or np.uint8, copy=False)

    def _read(self, number: int) -> np.ndarray:
        size = int(np.prod(self._picture))
        self._file.seek(number * size)
        return np.frombuffer(self._file.read(size), np.uint8).reshape(self._picture)
