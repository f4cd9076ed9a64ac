"""The exceptions that programs see, under the official library's names and base classes.

IcechunkError
├── ConflictError
│   └── RebaseFailedError
├── NotFoundError                 (also a KeyError)
│   ├── NodeNotFoundError
│   ├── SnapshotNotFoundError
│   ├── RefNotFoundError
│   └── RepositoryNotFoundError
├── AlreadyExistsError
├── ReadOnlyError
├── InvalidInputError             (also a ValueError)
├── SessionStateError
├── StorageError
├── FormatError
└── InternalError
"""

from collections.abc import Callable, Sequence
from typing import Any

from zfuse.api.conflicts import Conflict
from zfuse.api.error_kind import ErrorKind


class IcechunkError(Exception):
    """Base of all errors that a repository raises.

    ``message`` is one line that says what is wrong; ``kind`` tells it to a program, as a member
    of ErrorKind.
    """

    def __init__(self, message: str, kind: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.kind = ErrorKind(kind or ErrorKind.UNKNOWN)

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return type(self), (self.message, self.kind)


class ConflictError(IcechunkError):
    """The branch is not where this session began any more.

    ``expected_parent`` is the snapshot that the session changes, ``actual_parent`` the tip.
    """

    def __init__(
        self,
        expected_parent: str | None = None,
        actual_parent: str | None = None,
        message: str | None = None,
        kind: str | None = None,
    ) -> None:
        super().__init__(
            message or f"the branch is at {actual_parent}, no longer at {expected_parent}: rebase",
            kind or ErrorKind.COMMIT_CONFLICT,
        )
        self.expected_parent = expected_parent
        self.actual_parent = actual_parent

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        args = (self.expected_parent, self.actual_parent, self.message, self.kind)
        return type(self), args


class RebaseFailedError(ConflictError):
    """Others changed the same things; ``conflicts`` says which, ``snapshot`` since which of theirs.

    The session is as it was.
    """

    def __init__(
        self, snapshot: str, conflicts: Sequence[Conflict], message: str | None = None
    ) -> None:
        places = ", ".join(sorted({conflict.path for conflict in conflicts}))
        super().__init__(
            message=message or f"others changed the same things: {places}",
            kind=ErrorKind.REBASE_FAILED,
        )
        self.snapshot = snapshot
        self.conflicts = list(conflicts)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return type(self), (self.snapshot, self.conflicts, self.message)


class NotFoundError(IcechunkError, KeyError):
    """What was asked for does not exist."""


class NodeNotFoundError(NotFoundError):
    """There is no group, array or chunk at that path."""


class SnapshotNotFoundError(NotFoundError):
    """There is no snapshot of that id, or none as old as that."""


class RefNotFoundError(NotFoundError):
    """There is no branch or tag of that name."""


class RepositoryNotFoundError(NotFoundError):
    """There is no repository at that place."""


class AlreadyExistsError(IcechunkError):
    """The node, branch or tag to be made exists."""


class ReadOnlyError(IcechunkError):
    """The session, store or repository takes no changes."""


class ReadOnlyStoreError(ReadOnlyError, ValueError):
    """The store was opened for reading; what zarr raises then is a ValueError."""


class InvalidInputError(IcechunkError, ValueError):
    """An argument, key, index or metadata is not valid."""


class SessionStateError(IcechunkError):
    """The session or the repository is in no state in which that can be done."""


class StorageError(IcechunkError):
    """The object store failed, or is not set up right."""


class FormatError(IcechunkError):
    """Stored bytes contradict the format."""


class InternalError(IcechunkError):
    """Something went wrong that never should: a bug."""
