"""Write files that survive a crash or power cut, one process at a time.

All code that writes a user's file uses these functions in this order: `Part` (write, sync, rename), then `sync_folder`.
Only then may it remove files that the new one replaces. Tests replace these functions by failing ones.
"""
from __future__ import annotations

import errno
import glob
import hashlib
import os
import uuid
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

LOCK = ".lock"
LONGEST = 255  # bytes of a file name, on most file systems
_LOCKED_ERRORS = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK)  # another process holds the lock
_NO_SYNC_ERRORS = (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.ENOSYS)  # file systems that cannot sync a folder


class LockedError(Exception):
    """Another process, or another writer in this process, is writing this file."""


def open_new(path: Path) -> BinaryIO:
    """Open a new file with the user's default permissions. (tempfile uses 0600, which web servers cannot read.)"""
    return open(path, "x+b")


def sync(file: BinaryIO) -> None:
    """Flush a file and wait until all of it is on the disk."""
    file.flush()
    os.fsync(file.fileno())


def rename(hidden: Path, path: Path) -> None:
    """Rename a file atomically: `path` is always either the old file or the new one."""
    os.replace(hidden, path)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk. Does nothing on systems that cannot, such as Windows."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NO_SYNC_ERRORS:
            raise
    finally:
        os.close(handle)


def make_folder(folder: Path) -> None:
    """Create a folder and its parents, and sync the new names to the disk."""
    new = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for place in new:
        sync_folder(place.parent)


class Part:
    """A file that is written under a hidden name beside `path`. `keep()` renames it to `path`, `drop()` deletes it."""

    def __init__(self, path: Path):
        self.path = path
        # Only the end of the name, so that the hidden name is not too long if `path` has the longest name.
        self.hidden = path.with_name(f".{path.name[-40:]}.{uuid.uuid4().hex[:8]}.part")
        self._file: BinaryIO | None = None

    @property
    def file(self) -> BinaryIO:
        if self._file is None:
            self._file = open_new(self.hidden)
        return self._file

    def keep(self) -> Path:
        """Sync the file, rename it to its final path and return that path. Call `sync_folder` to sync the name."""
        file = self.file
        self._file = None
        with file:
            sync(file)
        rename(self.hidden, self.path)
        return self.path

    def drop(self) -> None:
        """Close and delete the file. Never raises an OSError, since it runs after another failure."""
        file, self._file = self._file, None
        with suppress(OSError):  # flushing fails on a full disk; the descriptor is closed all the same
            if file is not None:
                file.close()
        with suppress(OSError):
            self.hidden.unlink(missing_ok=True)


def leftovers(path: Path) -> list[Path]:
    """Return the hidden files of `path` that killed processes left behind."""
    return list(path.parent.glob(f".{glob.escape(path.name[-40:])}.????????.part"))


def write(path: Path, data: bytes) -> None:
    """Write a small file, completely or not at all, and sync it and its name to the disk."""
    part = Part(path)
    try:
        part.file.write(data)
        part.keep()
    except BaseException:
        part.drop()
        raise
    sync_folder(path.parent)


class Lock:
    """A lock on a file name, held until `release`. The system releases it when the process ends for any reason.

    Raises LockedError if another process or writer holds it. On file systems without locks it never fails.
    """

    def __init__(self, path: Path):
        """Acquire the lock. path: the file to lock; the lock is a hidden file beside it."""
        name = f".{path.name}{LOCK}"
        if len(os.fsencode(name)) > LONGEST:
            name = f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:32]}{LOCK}"
        self.path = path.with_name(name)
        for last in (False,) * 99 + (True,):
            self._handle: int | None = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                _lock(self._handle)
                if _is_at(self._handle, self.path) or last:  # else another process deleted the lock file
                    return
            except OSError as error:
                os.close(self._handle)
                if error.errno not in _LOCKED_ERRORS:
                    raise
                raise LockedError(str(path)) from None
            os.close(self._handle)

    def release(self) -> None:
        handle, self._handle = self._handle, None
        if handle is None:
            return
        # Windows cannot delete an open file. Elsewhere it is deleted first, so that nobody locks it in between.
        if os.name != "nt":
            with suppress(OSError):
                self.path.unlink()
        os.close(handle)
        if os.name == "nt":
            with suppress(OSError):
                self.path.unlink()


def is_locked(path: Path) -> bool:
    """Return whether another process or writer is writing `path`."""
    if not path.parent.is_dir():
        return False
    try:
        Lock(path).release()
    except LockedError:
        return True
    return False


def _lock(handle: int) -> None:
    if os.name == "nt":
        import msvcrt

        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # pyright: ignore[reportAttributeAccessIssue]
        return
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _LOCKED_ERRORS:
            raise


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.name == "nt" or os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False
