"""Every error that zfuse raises on purpose, with the errno and exit code it answers to.

The tree is grouped by what the person or program at the other end can do about it. Each
class states its errno and exit code once, here; ``zfuse.fs.fuse`` and ``zfuse.cli`` only
read them. A message is one line that says what is wrong and what to do next.

    ZfuseError
    ├── NotFoundError               look somewhere else
    │   └── RepositoryNotFoundError
    ├── StaleError                  look it up again
    ├── AlreadyExistsError          pick another name
    ├── NotEmptyError               empty it first
    ├── CrossTreeError              copy it instead
    ├── NotAllowedError             this mount or session does not do that
    │   ├── MergeError
    │   ├── ReadOnlyError
    │   │   └── ReadOnlyStoreError
    │   └── ContainerNotAllowedError
    │       └── ContainerNotOfferedError
    ├── InvalidInputError           say it differently
    │   ├── NameTooLongError
    │   └── UnsupportedVersionError
    ├── UncommittedChangesError     sync or discard them first
    ├── ConflictError               refresh, then try again
    ├── NotMountedError             mount it first
    ├── BusyError                   wait until nobody uses it
    ├── JournalError                look after the disk that sessions are kept on
    │   └── JournalFullError
    ├── StorageError                wait, then try again
    │   ├── TransientStorageError
    │   ├── StorageTimeoutError
    │   ├── OutcomeUnknownError
    │   ├── ObjectNotFoundError
    │   ├── AccessDeniedError
    │   ├── PreconditionFailedError
    │   └── VersionMismatchError
    └── CorruptionError             stop and tell the operator
        ├── MissingObjectError
        └── ChunkModifiedError
"""

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar


class ZfuseError(Exception):
    """Base of all errors that zfuse raises on purpose."""

    errno: ClassVar[int] = errno.EIO
    exit_code: ClassVar[int] = 1
    log_level: ClassVar[int] = logging.WARNING


class NotFoundError(ZfuseError):
    """No node, chunk, snapshot, branch or tag of that name exists."""

    errno = errno.ENOENT
    exit_code = 2
    log_level = logging.DEBUG  # Zarr readers probe for absent chunks all day


class RepositoryNotFoundError(NotFoundError):
    """There is no Icechunk repository at that location."""

    exit_code = 10


class StaleError(ZfuseError):
    """What an inode or a handle stood for is no longer shown; its name may mean another thing.

    The kernel answers ESTALE by walking the path again with nothing from its cache. ENOENT
    would not do: to Zarr, it means the fill value.
    """

    errno = errno.ESTALE
    log_level = logging.DEBUG


class AlreadyExistsError(ZfuseError):
    """The name is taken."""

    errno = errno.EEXIST
    exit_code = 2
    log_level = logging.DEBUG


class NotEmptyError(ZfuseError):
    """The directory still holds something."""

    errno = errno.ENOTEMPTY
    exit_code = 2
    log_level = logging.DEBUG


class CrossTreeError(ZfuseError):
    """Nothing moves from one ref to another, or out of a mount."""

    errno = errno.EXDEV
    exit_code = 2
    log_level = logging.DEBUG


class NotAllowedError(ZfuseError):
    """The operation is valid but not offered here."""

    errno = errno.EPERM
    exit_code = 2


class MergeError(NotAllowedError):
    """Forks of a session changed the same thing differently; merge one of them, or none."""


class ReadOnlyError(NotAllowedError):
    """The session reads a tag or a snapshot, or the mount is read-only."""

    errno = errno.EROFS


class ReadOnlyStoreError(ReadOnlyError, ValueError):
    """A Zarr store was opened for reading; what zarr raises then is a ValueError."""


class ContainerNotAllowedError(NotAllowedError):
    """A virtual chunk lies where the repository or the person mounting does not let zfuse read."""

    errno = errno.EACCES
    exit_code = 12


class ContainerNotOfferedError(ContainerNotAllowedError):
    """A virtual chunk lies in a store that this zfuse can not open, whoever allows it."""

    errno = errno.EIO
    exit_code = 2


class InvalidInputError(ZfuseError):
    """The caller passed something zfuse can not interpret."""

    errno = errno.EINVAL
    exit_code = 2


class NameTooLongError(InvalidInputError):
    """A name has more bytes than a directory entry can hold."""

    errno = errno.ENAMETOOLONG
    log_level = logging.DEBUG


class UnsupportedVersionError(InvalidInputError):
    """The repository is of a newer format than this zfuse knows."""

    errno = errno.EIO


class UncommittedChangesError(ZfuseError):
    """The session holds changes that the operation would lose."""

    errno = errno.EBUSY
    exit_code = 4


class ConflictError(ZfuseError):
    """Another writer moved the branch since this session began."""

    errno = errno.ESTALE
    exit_code = 5


class NotMountedError(ZfuseError):
    """The path is not inside a zfuse mount, or the mount's daemon is gone."""

    errno = errno.ENOTCONN
    exit_code = 6


class BusyError(ZfuseError):
    """Some process still uses the mount, or another one holds the lock."""

    errno = errno.EBUSY
    exit_code = 7


class JournalError(ZfuseError):
    """The files in which a session is kept can not be read or written."""

    log_level = logging.ERROR


class JournalFullError(JournalError):
    """There is no room left for what is written; all that was closed before is safe."""

    errno = errno.ENOSPC


class StorageError(ZfuseError):
    """The object store failed, after all retries."""

    exit_code = 75
    log_level = logging.ERROR


class TransientStorageError(StorageError):
    """One attempt failed in a way that another attempt may not.

    ``refused`` tells that the store has certainly not acted: nothing reached it, or its answer
    says so. Only then may a conditional write be repeated without looking.
    """

    def __init__(self, message: str, *, refused: bool = False) -> None:
        super().__init__(message)
        self.refused = refused


class StorageTimeoutError(StorageError):
    """The object store gave no answer before the deadline of the call."""


class OutcomeUnknownError(StorageError):
    """A conditional write was sent and its answer lost: it may have landed, or not."""


class ObjectNotFoundError(StorageError):
    """The store has no object under that key.

    Never let this reach a reader as it is: a caller that holds a reference to the object
    raises MissingObjectError, a caller that merely asks raises NotFoundError.
    """


class AccessDeniedError(StorageError):
    """The store refused the credentials, or there are none."""

    errno = errno.EACCES
    exit_code = 12


class PreconditionFailedError(StorageError):
    """The object is not the one that a conditional read asked for."""


class VersionMismatchError(StorageError):
    """A conditional write lost: the object is not at the expected version."""


class CorruptionError(ZfuseError):
    """Stored bytes contradict the format or each other."""

    exit_code = 8
    log_level = logging.ERROR


class MissingObjectError(CorruptionError):
    """A manifest or snapshot points at an object that is gone.

    Answers EIO, never ENOENT: to Zarr, an absent chunk file means the fill value, so ENOENT
    would turn lost data into zeros without a word.
    """


class ChunkModifiedError(CorruptionError):
    """The file that a virtual chunk points into changed after it was referenced."""


@contextmanager
def corruption_of(what: str) -> Iterator[None]:
    """Name *what* in front of every error that the block raises about stored bytes."""
    try:
        yield
    except UnsupportedVersionError as exc:
        raise UnsupportedVersionError(f"{what}: {exc}") from exc
    except CorruptionError as exc:
        raise CorruptionError(f"{what} is damaged: {exc}; restore it from a copy") from exc
