"""The repo info file: refs, snapshots, settings and the ops log of a version 2 repository.

Specification: spec-v2, "Repo Info File".
"""

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from zfuse.errors import CorruptionError
from zfuse.format.envelope import Envelope
from zfuse.format.flat import FlatBuffer, Table, required
from zfuse.format.header import FileType, check_spec_version
from zfuse.format.ids import SnapshotId
from zfuse.format.metadata_items import decode_items
from zfuse.format.values import decode_flexbuffer


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
    """What an entry of the ops log records; the numbers are those of the schema's union.

    UNKNOWN stands for kinds that a later minor version added; ``update_type`` in the
    details is the number then.
    """

    UNKNOWN = 0
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
        envelope = Envelope.decode(data, expect=FileType.REPO_INFO)
        if envelope.header.spec_version == 1:
            raise CorruptionError("a version 1 repository has no repo info file")
        root = FlatBuffer(envelope.payload).root()
        check_spec_version(root.u8(0))
        snapshots = _snapshots(required(root.tables(4), "Repo.snapshots"))
        by_index = [snapshot.id for snapshot in snapshots]
        config = root.byte_vector(9)
        return cls(
            spec_version=root.u8(0),
            tags=_refs(required(root.tables(1), "Repo.tags"), by_index),
            branches=_refs(required(root.tables(2), "Repo.branches"), by_index),
            deleted_tags=tuple(required(root.strings(3), "Repo.deleted_tags")),
            snapshots=_first_of_each(snapshots),
            status=_status(required(root.table(5), "Repo.status")),
            metadata=decode_items(root.tables(6) or (), decode_flexbuffer),
            latest_updates=tuple(
                _update(table) for table in required(root.tables(7), "Repo.latest_updates")
            ),
            repo_before_updates=root.string(8),
            config=None if config is None else decode_flexbuffer(config),
            enabled_feature_flags=root.u16s(10),
            disabled_feature_flags=root.u16s(11),
        )


def _refs(tables: Sequence[Table], snapshots: Sequence[SnapshotId]) -> dict[str, SnapshotId]:
    refs: dict[str, SnapshotId] = {}
    for table in tables:
        name, index = required(table.string(0), "Ref.name"), table.u32(1)
        if index >= len(snapshots):
            raise CorruptionError(f"the ref {name!r} is at snapshot {index} of {len(snapshots)}")
        refs.setdefault(name, snapshots[index])
    return refs


def _first_of_each(snapshots: Sequence[SnapshotInfo]) -> dict[SnapshotId, SnapshotInfo]:
    found: dict[SnapshotId, SnapshotInfo] = {}
    for snapshot in snapshots:
        found.setdefault(snapshot.id, snapshot)
    return found


def _snapshots(tables: Sequence[Table]) -> list[SnapshotInfo]:
    ids = [SnapshotId(required(table.struct(0, 12), "SnapshotInfo.id")) for table in tables]
    # Despite its name parent_offset is an index, and absent it is 0 like any scalar.
    parents = [table.i32(1) for table in tables]
    _check_ancestry(parents)
    return [
        SnapshotInfo(
            id=ids[n],
            parent_id=None if parents[n] < 0 else ids[parents[n]],
            flushed_at=table.u64(2),
            message=required(table.string(3), "SnapshotInfo.message"),
            metadata=decode_items(table.tables(4) or (), decode_flexbuffer),
            pruned_ancestor_tx_logs=tuple(
                SnapshotId(raw_id) for raw_id in table.structs(5, 12) or ()
            ),
        )
        for n, table in enumerate(tables)
    ]


def _check_ancestry(parents: Sequence[int]) -> None:
    """Make sure that every chain of parents (indices, negative for none) comes to an end.

    Raises:
        CorruptionError: one leads out of the list or into a loop.
    """
    checked_by: list[int | None] = [None] * len(parents)
    for start in range(len(parents)):
        n = start
        while n >= 0 and checked_by[n] is None:
            checked_by[n] = start
            if parents[n] >= len(parents):
                raise CorruptionError(f"a parent is snapshot {parents[n]} of {len(parents)}")
            n = parents[n]
            if n >= 0 and checked_by[n] == start:
                raise CorruptionError("a snapshot is its own ancestor")


def _status(table: Table) -> RepoStatus:
    try:
        availability = Availability(table.u8(0))
    except ValueError:
        raise CorruptionError(f"the repository has the unknown status {table.u8(0)}") from None
    return RepoStatus(availability, table.u64(1), table.string(2))


def _update(table: Table) -> Update:
    kind = table.u8(0)
    body = required(table.table(1), "Update.update_type")
    if kind == 0:
        raise CorruptionError("an entry of the ops log has no type")
    updated_at, backup_path = table.u64(2), table.string(3)
    if kind not in _DETAILS:
        return Update(UpdateKind.UNKNOWN, updated_at, backup_path, {"update_type": kind})
    update = UpdateKind(kind)
    details = {
        field: read(body, slot, f"{update.name}.{field}")
        for slot, (field, read) in enumerate(_DETAILS[update].items())
    }
    return Update(update, updated_at, backup_path, details)


def _read_name(table: Table, slot: int, name: str) -> str:
    return required(table.string(slot), name)


def _read_snapshot_id(table: Table, slot: int, name: str) -> SnapshotId:
    return SnapshotId(required(table.struct(slot, 12), name))


def _read_u8(table: Table, slot: int, _name: str) -> int:
    return table.u8(slot)


def _read_u16(table: Table, slot: int, _name: str) -> int:
    return table.u16(slot)


def _read_bool(table: Table, slot: int, _name: str) -> bool:
    return table.u8(slot) != 0


def _read_status(table: Table, slot: int, name: str) -> RepoStatus:
    return _status(required(table.table(slot), name))


_DETAILS: Final[Mapping[int, Mapping[str, Callable[[Table, int, str], object]]]] = {
    UpdateKind.REPO_INITIALIZED: {},
    UpdateKind.REPO_MIGRATED: {"from_version": _read_u8, "to_version": _read_u8},
    UpdateKind.CONFIG_CHANGED: {},
    UpdateKind.METADATA_CHANGED: {},
    UpdateKind.TAG_CREATED: {"name": _read_name},
    UpdateKind.TAG_DELETED: {"name": _read_name, "previous_snap_id": _read_snapshot_id},
    UpdateKind.BRANCH_CREATED: {"name": _read_name},
    UpdateKind.BRANCH_DELETED: {"name": _read_name, "previous_snap_id": _read_snapshot_id},
    UpdateKind.BRANCH_RESET: {"name": _read_name, "previous_snap_id": _read_snapshot_id},
    UpdateKind.NEW_COMMIT: {"branch": _read_name, "new_snap_id": _read_snapshot_id},
    UpdateKind.COMMIT_AMENDED: {
        "branch": _read_name,
        "previous_snap_id": _read_snapshot_id,
        "new_snap_id": _read_snapshot_id,
    },
    UpdateKind.NEW_DETACHED_SNAPSHOT: {"new_snap_id": _read_snapshot_id},
    UpdateKind.GC_RAN: {},
    UpdateKind.EXPIRATION_RAN: {},
    UpdateKind.FEATURE_FLAG_CHANGED: {
        "id": _read_u16,
        "new_value": _read_bool,
        "is_set": _read_bool,
    },
    UpdateKind.REPO_STATUS_CHANGED: {"status": _read_status},
}
"""The fields of each kind of update, in the order of the schema."""
