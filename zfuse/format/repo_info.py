"""The repo info file: refs, snapshots, settings and the ops log of a version 2 repository.

Specification: spec-v2, "Repo Info File".
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from zfuse.format.ids import SnapshotId


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """What is known of a snapshot without reading its file.

    ``flushed_at`` is in microseconds since 1970. ``pruned_ancestor_tx_logs`` names, oldest
    first, the transaction logs of ancestors that expiration removed.
    """

    id: SnapshotId
    parent_id: SnapshotId | None
    flushed_at: int
    message: str
    metadata: Mapping[str, Any]
    pruned_ancestor_tx_logs: tuple[SnapshotId, ...] = ()


class Availability(enum.IntEnum):
    """Whether the repository takes changes."""

    ONLINE = 0
    READ_ONLY = 1
    OFFLINE = 2


@dataclass(frozen=True, slots=True)
class RepoStatus:
    """Availability, since when (microseconds since 1970), and why."""

    availability: Availability
    set_at: int
    reason: str | None


class UpdateKind(enum.IntEnum):
    """What an entry of the ops log records; the numbers are those of the schema's union."""

    REPO_INITIALIZED = 1
    REPO_MIGRATED = 2
    CONFIG_CHANGED = 3
    METADATA_CHANGED = 4
    TAG_CREATED = 5
    TAG_DELETED = 6
    BRANCH_CREATED = 7
    BRANCH_DELETED = 8
    BRANCH_RESET = 9
    NEW_COMMIT = 10
    COMMIT_AMENDED = 11
    NEW_DETACHED_SNAPSHOT = 12
    GC_RAN = 13
    EXPIRATION_RAN = 14
    FEATURE_FLAG_CHANGED = 15
    REPO_STATUS_CHANGED = 16


@dataclass(frozen=True, slots=True)
class Update:
    """An entry of the ops log.

    ``details`` holds the fields of that kind of update under the schema's names (ids as
    SnapshotId, a status as RepoStatus). ``updated_at`` is in microseconds since 1970;
    ``backup_path`` names the repo info before this update, inside ``overwritten/``.
    """

    kind: UpdateKind
    updated_at: int
    backup_path: str | None
    details: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RepoInfo:
    """The one mutable object of a version 2 repository, decoded.

    ``latest_updates`` is newest first. ``config`` is the FlexBuffer decoded to plain
    Python values, None where every setting has its default.
    """

    spec_version: int
    tags: Mapping[str, SnapshotId]
    branches: Mapping[str, SnapshotId]
    deleted_tags: tuple[str, ...]
    snapshots: Mapping[SnapshotId, SnapshotInfo]
    status: RepoStatus
    metadata: Mapping[str, Any]
    latest_updates: tuple[Update, ...]
    repo_before_updates: str | None
    config: Any | None
    enabled_feature_flags: tuple[int, ...] | None
    disabled_feature_flags: tuple[int, ...] | None

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read a repo info file.

        Raises:
            CorruptionError: *data* is not a sound repo info file.
            UnsupportedVersionError: it is of a newer specification.
        """
        raise NotImplementedError
