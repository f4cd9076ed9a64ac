"""Atomic, durable, conditional changes of single files, by blocking calls.

* Every write goes to a temporary name in the same directory, is synced and then linked
  (create) or renamed (replace) into place, so a reader sees the old bytes or the new ones.
* A replacement that expects a version compares and renames under ``flock``, which the kernel
  releases when its holder dies. A writer that takes no lock, as the official library, is not
  held back by it.

Temporary and lock files end in ``#`` and digits: names that the official library skips when it
lists.
"""

import errno
import fcntl
import os
import random
import re
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from zfuse.errors import VersionMismatchError
from zfuse.storage.base import ABSENT, Expectation, Version

HIDDEN_NAME: Final = re.compile(r"#[0-9]+\Z")
"""Ends the names of temporary and lock files, ours and the official library's."""

_LOCK_NAME: Final = ".zfuse-lock#0"
_NO_LINK_ERRNOS: Final = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


class LockedError(OSError):
    """Another thread or process is replacing an object in this directory."""


def version_of(found: os.stat_result) -> Version:
    """Return what changes with every replacement of a file."""
    # A replacement lives in another inode than what it replaces; the time, which _write_temporary
    # sets in full nanoseconds, tells apart two files that had one inode number in turn.
    return Version(f"{found.st_ino:x}-{found.st_mtime_ns:x}-{found.st_size:x}")


def stat_file(path: Path) -> os.stat_result:
    """Return the facts of a regular file; anything else counts as absent."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise FileNotFoundError(errno.ENOENT, "not a regular file", str(path))
    return found


def put_file(path: Path, data: bytes, expect: Expectation) -> Version:
    """Write *data* as the file *path*, synced to disk, and return its version.

    Raises:
        VersionMismatchError: the file is not in the state that *expect* names.
        LockedError: somebody else holds the lock; try again.
    """
    if expect is None:
        with _temporary(path, data) as (temporary, version), _lock(path.parent, create=False):
            temporary.replace(path)
    elif expect is ABSENT:
        version = _create(path, data)
    else:
        version = _replace(path, data, expect)
    _sync_directory(path.parent)
    return version


def link_file(source: Path, path: Path) -> bool:
    """Make the new file *path* another name of *source*, modified now and synced to disk.

    Its own time may be long ago, and garbage collection spares what was stored lately. Returns
    False where that is not to be had: on another disk, or one without hard links.
    """
    fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fchmod(fd, 0o644)
        now = time.time_ns()
        os.utime(fd, ns=(now, now))
        os.fsync(fd)
        try:
            os.link(source, path)
        except FileNotFoundError:
            _make_directory(path.parent)
            os.link(source, path)
    except OSError as exc:
        if exc.errno not in {*_NO_LINK_ERRNOS, errno.EXDEV, errno.EMLINK}:
            raise
        return False
    finally:
        os.close(fd)
    _sync_directory(path.parent)
    return True


def _create(path: Path, data: bytes) -> Version:
    if os.path.lexists(path):  # saves writing the bytes; the link below is what decides
        raise _mismatch(path)
    with _temporary(path, data) as (temporary, version):
        try:
            os.link(temporary, path)
        except FileExistsError:
            raise _mismatch(path) from None
        except OSError as exc:
            if exc.errno not in _NO_LINK_ERRNOS:
                raise
            # No hard links here (FAT, some FUSE): zfuse processes still exclude each other.
            with _lock(path.parent, create=True):
                if os.path.lexists(path):
                    raise _mismatch(path) from None
                temporary.replace(path)
    return version


def _replace(path: Path, data: bytes, expect: Expectation) -> Version:
    if not path.parent.is_dir():
        raise _mismatch(path)
    with _lock(path.parent, create=True):
        try:
            found = version_of(stat_file(path))
        except FileNotFoundError:
            raise _mismatch(path) from None
        if found != expect:
            raise _mismatch(path)
        with _temporary(path, data) as (temporary, version):
            temporary.replace(path)
    return version


def delete_file(path: Path) -> None:
    """Remove the file *path*, if there is one; its directory stays.

    Raises:
        LockedError: somebody else holds the lock; try again.
    """
    if _unlink([path], path.parent):
        _sync_directory(path.parent)


def delete_files(paths: Iterable[Path]) -> None:
    """Remove the files *paths*, as ``delete_file`` does; the disk is waited for once."""
    below: dict[Path, list[Path]] = {}
    for path in paths:
        below.setdefault(path.parent, []).append(path)
    for directory, own in below.items():
        if _unlink(own, directory):
            _sync_directory(directory)


def _unlink(paths: Iterable[Path], directory: Path) -> bool:
    """Remove those of *paths*, all in *directory*, that are files; return whether any was."""
    removed = False
    with suppress(NotADirectoryError), _lock(directory, create=False):
        for path in paths:
            with suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):
                path.unlink()
                removed = True
    return removed


def _mismatch(path: Path) -> VersionMismatchError:
    return VersionMismatchError(f"{path} is not in the expected state: another writer was faster")


@contextmanager
def _temporary(path: Path, data: bytes) -> Iterator[tuple[Path, Version]]:
    """Write *data* beside *path*, synced; whatever the block does not move away is removed."""
    temporary = path.with_name(f"zfuse#{random.getrandbits(62)}")
    try:
        version = _write_temporary(temporary, data)
    except FileNotFoundError:
        _make_directory(path.parent)
        version = _write_temporary(temporary, data)
    try:
        yield temporary, version
    finally:
        temporary.unlink(missing_ok=True)


def _write_temporary(temporary: Path, data: bytes) -> Version:
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        # The kernel's own clock moves in steps of milliseconds: too coarse for a version.
        now = time.time_ns()
        os.utime(fd, ns=(now, now))
        os.fsync(fd)
        return version_of(os.fstat(fd))
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        os.close(fd)


def _make_directory(directory: Path) -> None:
    """Create *directory* and its parents, each synced into the one above."""
    if directory.is_dir():
        return
    _make_directory(directory.parent)
    directory.mkdir(exist_ok=True)
    _sync_directory(directory.parent)


def _sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def _lock(directory: Path, *, create: bool) -> Iterator[None]:
    """Hold the lock for replacing objects in *directory*.

    Without *create* a directory in which no object was ever replaced on a condition is not
    locked, so that a directory of chunks never gets a lock file.
    """
    flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
    try:
        fd = os.open(directory / _LOCK_NAME, flags, 0o666)
    except FileNotFoundError:
        if create:
            raise
        yield
        return
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LockedError from None
        yield
    finally:
        os.close(fd)  # gives the lock back
