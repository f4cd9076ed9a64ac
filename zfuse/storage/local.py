"""Objects as files below a directory.

A key is the path below the root, verbatim. The layout is what the official library's local
store uses, so both can work on one repository; the difference is that replacing an object is
conditional here, and durable:

* every write goes to a temporary name in the same directory, is synced and then linked
  (create) or renamed (replace) into place, so a reader sees the old bytes or the new ones;
* a replacement that expects a version compares and renames under ``flock``, which the kernel
  releases when its holder dies. A writer that takes no lock, as the official library, is not
  held back by it.

Temporary and lock files end in ``#`` and digits: names that the official library skips when it
lists, as this module does.
"""

import contextlib
import errno
import fcntl
import itertools
import os
import random
import re
import stat
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import trio

from zfuse.byterange import ByteRange
from zfuse.errors import (
    AccessDeniedError,
    InvalidInputError,
    ObjectNotFoundError,
    PreconditionFailedError,
    StorageError,
    TransientStorageError,
    VersionMismatchError,
)
from zfuse.storage.base import (
    ABSENT,
    Blob,
    Expectation,
    ObjectInfo,
    Storage,
    Unmodified,
    Version,
)
from zfuse.storage.keys import check_key, check_prefix
from zfuse.storage.preconditions import check_last_modified

_HIDDEN_NAME: Final = re.compile(r"#[0-9]+\Z")
_LOCK_NAME: Final = ".zfuse-lock#0"
_THREADS: Final = 32
_LISTING_BATCH: Final = 1000
_ABSENT_ERRNOS: Final = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG}
_PASSING_ERRNOS: Final = {errno.ESTALE, errno.EAGAIN, errno.ETIMEDOUT, errno.EMFILE, errno.ENFILE}
_NO_LINK_ERRNOS: Final = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
_LOCK_POLL_MAX: Final = 0.05


class LocalStorage(Storage):
    """Storage in a local directory, which need not exist before the first put.

    Blocking calls run in worker threads. One that a cancelled caller no longer waits for is
    left to end by itself, so a hanging network file system can not hang the process; it still
    counts against this storage's own limit of threads.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._threads = trio.CapacityLimiter(_THREADS)

    @property
    def url(self) -> str:
        """Return the directory's path."""
        return str(self._root)

    async def get(self, key: str) -> Blob:
        """Return the whole object."""
        return await self._read(_read_all, self._path(key))

    async def get_range(
        self, key: str, byte_range: ByteRange, *, unmodified: Unmodified | None = None
    ) -> bytes:
        """Return the asked bytes."""
        return await self._read(
            lambda path: _read_range(path, byte_range, unmodified), self._path(key)
        )

    async def head(self, key: str) -> ObjectInfo:
        """Return size, time and version."""
        return await self._read(lambda path: _info(key, _stat_file(path)), self._path(key))

    async def put(self, key: str, data: bytes, *, expect: Expectation = None) -> Version:
        """Store *data* under *key*, synced to disk before this returns."""
        if _HIDDEN_NAME.search(key):
            raise InvalidInputError(f"{key!r} ends like a temporary name and would not be listed")
        return await self._write(lambda path: _put(path, data, expect), self._path(key))

    async def delete(self, key: str) -> None:
        """Remove the object; directories stay, as the official library leaves them."""
        await self._write(_delete, self._path(key))

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        """Yield the regular files whose path starts with *prefix*."""
        check_prefix(prefix)
        directory, _, _ = prefix.rpartition("/")
        path = self._root / directory
        found = _walk(path, directory, prefix)
        try:
            while batch := await self._read(
                lambda _: [*itertools.islice(found, _LISTING_BATCH)], path
            ):
                for info in batch:
                    yield info
        finally:
            # An abandoned thread may still be inside; it drops, and so closes, the walk itself.
            with contextlib.suppress(ValueError):
                found.close()

    def _path(self, key: str) -> Path:
        check_key(key)
        return self._root / key

    async def _read[T](self, call: Callable[[Path], T], path: Path) -> T:
        try:
            return await self._in_thread(call, path)
        except OSError as exc:
            if exc.errno in _ABSENT_ERRNOS:
                raise ObjectNotFoundError(f"there is no file {path}") from None
            raise _translated(path, exc) from exc

    async def _write[T](self, call: Callable[[Path], T], path: Path) -> T:
        """Return what *call* returns once no other writer holds the lock."""
        pause = 0.001
        while True:
            try:
                return await self._in_thread(call, path)
            except _LockedError:
                await trio.sleep(random.uniform(0, pause))
                pause = min(pause * 2, _LOCK_POLL_MAX)
            except OSError as exc:
                raise _translated(path, exc) from exc

    async def _in_thread[T](self, call: Callable[[Path], T], path: Path) -> T:
        return await trio.to_thread.run_sync(
            call, path, abandon_on_cancel=True, limiter=self._threads
        )


class _LockedError(OSError):
    """Another thread or process is replacing an object in this directory."""


def _translated(path: Path, exc: OSError) -> StorageError:
    if exc.errno in {errno.EACCES, errno.EPERM}:
        return AccessDeniedError(f"no permission for {path}: check its owner and mode")
    if exc.errno in _PASSING_ERRNOS:
        return TransientStorageError(f"{path}: {exc.strerror}")
    return StorageError(f"{path}: {exc.strerror or exc}")


def _version(found: os.stat_result) -> Version:
    # A replacement lives in another inode than what it replaces; the time, which _write_temporary
    # sets in full nanoseconds, tells apart two files that had one inode number in turn.
    return Version(f"{found.st_ino:x}-{found.st_mtime_ns:x}-{found.st_size:x}")


def _info(key: str, found: os.stat_result) -> ObjectInfo:
    return ObjectInfo(key, found.st_size, found.st_mtime_ns, _version(found))


# -- reading ------------------------------------------------------------------------------------


def _stat_file(path: Path) -> os.stat_result:
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise FileNotFoundError(errno.ENOENT, "not a regular file", str(path))
    return found


@contextmanager
def _opened(path: Path) -> Iterator[tuple[int, os.stat_result]]:
    # O_NONBLOCK: opening a stray named pipe must not wait for its writer.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise FileNotFoundError(errno.ENOENT, "not a regular file", str(path))
        yield fd, found
    finally:
        os.close(fd)


def _read_all(path: Path) -> Blob:
    with _opened(path) as (fd, found):
        return Blob(_pread(fd, ByteRange(0, found.st_size)), _version(found))


def _read_range(path: Path, byte_range: ByteRange, unmodified: Unmodified | None) -> bytes:
    with _opened(path) as (fd, found):
        if unmodified is not None:
            _check_unmodified(path, found, unmodified)
        stop = min(byte_range.stop, found.st_size)
        return _pread(fd, ByteRange(min(byte_range.start, stop), stop))


def _check_unmodified(path: Path, found: os.stat_result, wanted: Unmodified) -> None:
    if wanted.etag is not None:
        # Their etag of a local file is no fact about the file alone; the official library
        # itself never matches one (2.3.0).
        raise PreconditionFailedError(
            f"{path}: an etag ({wanted.etag}) can not be verified for a local file; "
            "reference it with its last-modified time instead"
        )
    check_last_modified(str(path), found.st_mtime_ns, wanted)


def _pread(fd: int, wanted: ByteRange) -> bytes:
    # One call moves at most 2 GiB, and a network file system may return less than asked.
    pieces = []
    offset = wanted.start
    while offset < wanted.stop and (piece := os.pread(fd, wanted.stop - offset, offset)):
        pieces.append(piece)
        offset += len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


# -- writing ------------------------------------------------------------------------------------


def _put(path: Path, data: bytes, expect: Expectation) -> Version:
    if expect is None:
        with _temporary(path, data) as (temporary, version), _lock(path.parent, create=False):
            temporary.replace(path)
    elif expect is ABSENT:
        version = _create(path, data)
    else:
        version = _replace(path, data, expect)
    _sync_directory(path.parent)
    return version


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
            found = _version(_stat_file(path))
        except FileNotFoundError:
            raise _mismatch(path) from None
        if found != expect:
            raise _mismatch(path)
        with _temporary(path, data) as (temporary, version):
            temporary.replace(path)
    return version


def _delete(path: Path) -> None:
    try:
        with _lock(path.parent, create=False):
            path.unlink()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return
    _sync_directory(path.parent)


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
        return _version(os.fstat(fd))
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
            raise _LockedError from None
        yield
    finally:
        os.close(fd)  # gives the lock back


# -- listing ------------------------------------------------------------------------------------


def _walk(directory: Path, key: str, prefix: str) -> Generator[ObjectInfo]:
    """Yield the files below *directory*, whose own key is *key*, that start with *prefix*."""
    return _walk_in(str(directory), key, prefix, frozenset())


def _walk_in(
    directory: str, key: str, prefix: str, above: frozenset[tuple[int, int]]
) -> Generator[ObjectInfo]:
    try:
        entries = os.scandir(directory)
        here = os.stat(directory)
    except (FileNotFoundError, NotADirectoryError):
        return
    identity = (here.st_dev, here.st_ino)
    if identity in above:  # a symbolic link to a directory above
        entries.close()
        return
    with entries:
        for entry in entries:
            name = f"{key}/{entry.name}" if key else entry.name
            if not _concerns(name, prefix):
                continue
            if entry.is_dir():
                yield from _walk_in(entry.path, name, prefix, above | {identity})
            elif name.startswith(prefix) and (info := _listed(entry, name)):
                yield info


def _concerns(name: str, prefix: str) -> bool:
    """Tell whether a file or directory of that name may hold keys that start with *prefix*."""
    return name.startswith(prefix) or prefix.startswith(name + "/")


def _listed(entry: os.DirEntry[str], key: str) -> ObjectInfo | None:
    if _HIDDEN_NAME.search(entry.name):
        return None
    try:
        key.encode()
        found = entry.stat()
    except (UnicodeEncodeError, FileNotFoundError):  # junk, or gone since
        return None
    return _info(key, found) if stat.S_ISREG(found.st_mode) else None
