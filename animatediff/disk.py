"""Files that survive: on the disk before they get their name, and made by one process at a time.

Everything that writes a user's file goes through these functions, in this order: `Part` (write, sync, rename), then
`sync_folder`, and only then may what the file replaces be removed. Tests put failing ones in their place.
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
LONGEST = 255  # bytes of a name, on most file systems
_HELD = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK)  # how systems say that a lock is another's
_NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.ENOSYS)  # file systems that cannot sync a folder


class LockedError(Exception):
    """Another process is making this file, or another writer of this process."""


def open_new(path: Path) -> BinaryIO:
    """Open a new file with the user's own permissions (tempfile's are 0600, which web servers cannot read)."""
    return open(path, "x+b")


def sync(file: BinaryIO) -> None:
    """Return when the disk has all of a file."""
    file.flush()
    os.fsync(file.fileno())


def rename(hidden: Path, path: Path) -> None:
    """In one step, so that `path` is the old file or the new one."""
    os.replace(hidden, path)


def sync_folder(folder: Path) -> None:
    """Return when the disk has the names in a folder. Where a system cannot do that, as Windows, nothing is done."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(handle)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it; what is new outlives a power cut."""
    new = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for place in new:
        sync_folder(place.parent)


class Part:
    """A file under a hidden name beside its place: `keep()` renames it there, `drop()` leaves nothing."""

    def __init__(self, path: Path):
        self.path = path
        # Only the end of the name, so that a name of the greatest length still has a hidden one.
        self.hidden = path.with_name(f".{path.name[-40:]}.{uuid.uuid4().hex[:8]}.part")
        self._file: BinaryIO | None = None

    @property
    def file(self) -> BinaryIO:
        if self._file is None:
            self._file = open_new(self.hidden)
        return self._file

    def keep(self) -> Path:
        """Move the file to its place, once the disk has all of it. `sync_folder` makes the name last."""
        file = self.file
        self._file = None
        with file:
            sync(file)
        rename(self.hidden, self.path)
        return self.path

    def drop(self) -> None:
        """Close and delete; never raises, because it runs when something else has failed already."""
        file, self._file = self._file, None
        with suppress(OSError):  # the buffer of a full disk; the descriptor is closed all the same
            if file is not None:
                file.close()
        with suppress(OSError):
            self.hidden.unlink(missing_ok=True)


def leftovers(path: Path) -> list[Path]:
    """Hidden files that a process which was killed left of this one."""
    return list(path.parent.glob(f".{glob.escape(path.name[-40:])}.????????.part"))


def write(path: Path, data: bytes) -> None:
    """A small file, whole or not at all, and there after a power cut."""
    part = Part(path)
    try:
        part.file.write(data)
        part.keep()
    except BaseException:
        part.drop()
        raise
    sync_folder(path.parent)


class Lock:
    """A claim to a name: held until `release`, and let go by the system when the process ends, however it ends.

    LockedError where another has it. Where a file system knows no locks, everybody gets it.
    """

    def __init__(self, path: Path):
        """`path`: of what is locked; the lock is a hidden file beside it."""
        name = f".{path.name}{LOCK}"
        if len(os.fsencode(name)) > LONGEST:
            name = f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:32]}{LOCK}"
        self.path = path.with_name(name)
        for last in (False,) * 99 + (True,):
            self._handle: int | None = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                _lock(self._handle)
                if _is_at(self._handle, self.path) or last:  # not what another has deleted in the meantime
                    return
            except OSError as error:
                os.close(self._handle)
                if error.errno not in _HELD:
                    raise
                raise LockedError(str(path)) from None
            os.close(self._handle)

    def release(self) -> None:
        handle, self._handle = self._handle, None
        if handle is None:
            return
        if os.name != "nt":  # there a file that is open cannot be deleted; here another must not get it in between
            with suppress(OSError):
                self.path.unlink()
        os.close(handle)
        if os.name == "nt":
            with suppress(OSError):
                self.path.unlink()


def is_locked(path: Path) -> bool:
    """Whether another is making the file `path` at this moment."""
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
        if error.errno in _HELD:
            raise


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.name == "nt" or os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False
