"""Objects as files below a directory.

A key is the path below the root, verbatim. The layout is what the official library's local
store uses, so both can work on one repository; the difference is that replacing an object is
conditional here, and durable (zfuse.storage.local_files).
"""

import contextlib
import errno
import itertools
import os
import random
import stat
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Sequence
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
)
from zfuse.storage.base import (
    Blob,
    Expectation,
    ObjectInfo,
    Storage,
    Unmodified,
    Version,
)
from zfuse.storage.keys import check_key, check_prefix
from zfuse.storage.local_files import (
    HIDDEN_NAME,
    LockedError,
    delete_file,
    delete_files,
    link_file,
    put_file,
    stat_file,
    version_of,
)
from zfuse.storage.preconditions import check_last_modified

_THREADS: Final = 32
_LISTING_BATCH: Final = 1000
_ABSENT_ERRNOS: Final = {
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.ELOOP,
}
_PASSING_ERRNOS: Final = {errno.ESTALE, errno.EAGAIN, errno.ETIMEDOUT, errno.EMFILE, errno.ENFILE}
_LOCK_POLL_MAX: Final = 0.05


class LocalStorage(Storage):
    """Storage in a local directory, which need not exist before the first put.

    Blocking calls run in worker threads. One that a cancelled caller no longer waits for is
    left to end by itself, so a hanging network file system can not hang the process; it still
    counts against this storage's own limit of threads.
    """

    deletes_in_bulk = True

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
        return await self._read(lambda path: _info(key, stat_file(path)), self._path(key))

    async def put(self, key: str, data: bytes, *, expect: Expectation = None) -> Version:
        """Store *data* under *key*, synced to disk before this returns."""
        if HIDDEN_NAME.search(key):
            raise InvalidInputError(f"{key!r} ends like a temporary name and would not be listed")
        return await self._write(lambda path: put_file(path, data, expect), self._path(key))

    async def put_file(self, key: str, path: Path) -> None:
        """Give the file a second name under *key*, synced to disk, or else copy it."""
        if not await self._write(lambda target: link_file(path, target), self._path(key)):
            await super().put_file(key, path)

    async def delete(self, key: str) -> None:
        """Remove the object; directories stay, as the official library leaves them."""
        await self._write(delete_file, self._path(key))

    async def delete_many(self, keys: Sequence[str]) -> None:
        """Remove the objects, synced to disk once for each directory."""
        paths = [self._path(key) for key in keys]
        await self._write(lambda _: delete_files(paths), self._root)

    async def list(self, prefix: str) -> AsyncGenerator[ObjectInfo]:
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
            raise _translated(Path(exc.filename or path), exc) from exc

    async def _write[T](self, call: Callable[[Path], T], path: Path) -> T:
        """Return what *call* returns once no other writer holds the lock."""
        pause = 0.001
        while True:
            try:
                return await self._in_thread(call, path)
            except LockedError:
                await trio.sleep(random.uniform(0, pause))
                pause = min(pause * 2, _LOCK_POLL_MAX)
            except OSError as exc:
                raise _translated(path, exc) from exc

    async def _in_thread[T](self, call: Callable[[Path], T], path: Path) -> T:
        return await trio.to_thread.run_sync(
            call, path, abandon_on_cancel=True, limiter=self._threads
        )


def _translated(path: Path, exc: OSError) -> StorageError:
    if exc.errno in {errno.EACCES, errno.EPERM}:
        return AccessDeniedError(f"no permission for {path}: check its owner and mode")
    if exc.errno in _PASSING_ERRNOS:
        return TransientStorageError(f"{path}: {exc.strerror}")
    return StorageError(f"{path}: {exc.strerror or exc}")


def _info(key: str, found: os.stat_result) -> ObjectInfo:
    return ObjectInfo(key, found.st_size, found.st_mtime_ns, version_of(found))


# -- reading ------------------------------------------------------------------------------------


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
        return Blob(_pread(fd, ByteRange(0, found.st_size)), version_of(found))


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
            found = _followed(entry)
            if found is not None and stat.S_ISDIR(found.st_mode):
                yield from _walk_in(entry.path, name, prefix, above | {identity})
            elif found is not None and name.startswith(prefix) and _is_object(found, name):
                yield _info(name, found)


def _concerns(name: str, prefix: str) -> bool:
    """Tell whether a file or directory of that name may hold keys that start with *prefix*."""
    return name.startswith(prefix) or prefix.startswith(name + "/")


def _followed(entry: os.DirEntry[str]) -> os.stat_result | None:
    """Return what the entry leads to; None if that is nothing, or nothing any more."""
    try:
        return entry.stat()
    except OSError as exc:
        if exc.errno in _ABSENT_ERRNOS:
            return None
        raise


def _is_object(found: os.stat_result, key: str) -> bool:
    # A file name that is not UTF-8 comes with surrogates in it; it can be no key.
    return (
        stat.S_ISREG(found.st_mode)
        and not HIDDEN_NAME.search(key)
        and not any("\ud800" <= char <= "\udfff" for char in key)
    )
